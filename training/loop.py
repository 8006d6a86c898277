"""The training loop that every method runs in.

A method is an *objective*: it owns the model and turns a step number into losses. Each step draws
its data and randomness from a generator seeded by (seed, step), so a resumed run repeats exactly
what an uninterrupted one does, and the state to save is weights, optimizer and step.

Of several processes rank 0 alone writes files and calls hooks; all take the same steps and stop
after the same one.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from atas_deploy.training.checkpoint import cut_log, load_checkpoint, make_folder
from atas_deploy.training.distributed import SINGLE, Group
from atas_deploy.training.events import open_events
from atas_deploy.training.loop_settings import Hooks, LoopResult, LoopSettings
from atas_deploy.training.objective import LocalObjective, Losses, Objective
from atas_deploy.training.signals import catch_signals
from atas_deploy.training.trainer import Trainer

__all__ = [
    "Hooks",
    "LocalObjective",
    "LoopResult",
    "LoopSettings",
    "Losses",
    "Objective",
    "run",
]


def run(
    objective: Objective,
    settings: LoopSettings,
    *,
    folder: Path,
    resume: bool = False,
    hooks: Hooks | None = None,
    group: Group = SINGLE,
    tensorboard: bool = False,
) -> LoopResult:
    """Optimise an objective; save at intervals, at the end and when asked to stop.

    Args:
        objective: the method.
        settings: how to optimise.
        folder: where checkpoint and log go.
        resume: go on from the checkpoint in `folder`.
        hooks: what to call on the way.
        group: all processes of the run, of which this is one.
        tensorboard: write the log rows as TensorBoard events, too.

    Raises:
        NonFiniteLossError: a loss became NaN or infinite; the last checkpoint stays as it was.
        TrainingError: another process has ended.
        CheckpointError: the run cannot be resumed.
        OutputError: the folder cannot be written.
        BackendUnavailableError: TensorBoard is asked for and not installed.
        SystemExit: with code 1 in all processes but rank 0, which raises what all stop for.
    """
    trainer = Trainer(objective, settings, folder=folder, hooks=hooks or Hooks(), group=group)
    if group.rank == 0:
        make_folder(folder)
    if resume:
        trainer.restore(load_checkpoint(folder))
    if group.rank > 0:
        return _train(trainer)
    trainer.last_row = cut_log(folder, steps=trainer.step)
    with open_events(folder, step=trainer.step) if tensorboard else nullcontext() as write:
        if write is not None:
            trainer.hooks = _telling(trainer.hooks, write)
        trainer.hooks.on_start(settings.steps - trainer.step)
        return _train(trainer)


def _train(trainer: Trainer) -> LoopResult:
    """Take the steps that are left, or those until any process receives a signal; then save."""
    model, steps, group = trainer.objective.model, trainer.settings.steps, trainer.group
    model.train()
    with catch_signals(repeated=group.world > 1) as received:
        while not (stop := group.largest(max(received, default=0))) and trainer.step < steps:
            trainer.advance()
        trainer.finish()
    model.eval()
    interrupted = stop if trainer.step < steps else None
    return LoopResult(trainer.step, trainer.last_row, interrupted)


def _telling(hooks: Hooks, write: Callable[[Mapping[str, float]], None]) -> Hooks:
    """Hooks that write each log row as well."""

    def on_log(row: Mapping[str, float]) -> None:
        write(row)
        hooks.on_log(row)

    return replace(hooks, on_log=on_log)

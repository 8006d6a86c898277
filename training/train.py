"""One training run: data, model, method, loop, model folder."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import torch

from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import TrainingError
from atas_deploy.evaluation.compare import Comparison
from atas_deploy.runtime.lock import locked
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.training.checkpoint import make_folder
from atas_deploy.training.distributed import join, leave
from atas_deploy.training.loop import Hooks
from atas_deploy.training.loop import run as run_loop
from atas_deploy.training.methods import open_data, open_method
from atas_deploy.training.model_folder import ModelFolder, check_data
from atas_deploy.training.options import DistillOptions
from atas_deploy.training.plan import (
    Tell,
    describe,
    fit_batch,
    fit_watch,
    loop_settings,
    missing_images,
)
from atas_deploy.training.resolve import Run
from atas_deploy.training.run_check import open_check
from atas_deploy.training.run_folder import discard_parts, write_run_file
from atas_deploy.training.start_model import open_device, open_start
from atas_deploy.training.watch import watching

_NO_MEMORY = ("can't allocate memory", "Insufficient memory")  # PyTorch's and OpenCV's words


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOutcome:
    """What a run leaves.

    Attributes:
        folder: the model folder.
        step: steps taken in all.
        row: the last log row, and the last values of what is not in every row.
        changes: the last check against the start, by read-out; empty if none was made.
        interrupted: the signal that stopped the run, or None.
        broken: images that could not be read, with the reason.
    """

    folder: Path
    step: int
    row: Mapping[str, float]
    changes: Mapping[str, Comparison]
    interrupted: int | None
    broken: Mapping[str, str]


def train(
    run: Run,
    *,
    folder: Path,
    resume: bool = False,
    hooks: Hooks | None = None,
    tell: Tell = lambda _: None,
) -> TrainOutcome:
    """Train a model and write it as a model folder.

    Args:
        run: what to do, from `settle`.
        folder: of the run; becomes the model folder.
        resume: go on with the run there.
        hooks: called on the way.
        tell: takes what the user should know, a sentence at a time.

    Raises:
        InputError: images, captions or labels cannot be read.
        ConfigError: an option cannot be used.
        CheckpointError: the model or the run to resume cannot be read.
        NonFiniteLossError: training diverged.
        TrainingError: too many images are broken, or memory ran out.
        OutputError: the folder cannot be written.
    """
    group = join(open_device(run.options.device))
    with ExitStack() as stack:
        stack.enter_context(_memory_in_one_sentence())
        make_folder(folder)
        if group.rank == 0:
            stack.enter_context(locked(RunFiles(folder)))
            discard_parts(folder)
        data = open_data(run)
        if said := missing_images(data):
            tell(said)
        run = fit_batch(run, count=len(data), world=group.world, tell=tell)
        clip = open_start(run.options.model, seed=run.options.seed)
        clip.model.to(group.device)
        width = DenseViT(clip.model.visual).tower.conv.out_channels
        settings = loop_settings(run.options, count=len(data), world=group.world, width=width)
        run = fit_watch(run, settings)
        if resume:
            check_data(folder, data)
        method = open_method(run, clip, data, group)
        stack.callback(method.close)
        logged: dict[str, float] = {}
        model_folder = ModelFolder(
            folder, clip, run, loop=settings, data=data, broken=method.broken, resume=resume
        )
        if group.rank == 0:
            hooks = _attend(hooks or Hooks(), model_folder, logged, tell=tell)
            if not resume:
                tell(describe(run, settings, count=len(data), world=group.world))
        result = run_loop(
            method.objective,
            settings,
            folder=folder,
            resume=resume,
            hooks=hooks,
            group=group,
            tensorboard=run.options.tensorboard,
        )
        broken = {k: v for part in group.objects(dict(method.broken)) for k, v in part.items()}
        if group.rank == 0 and len(broken) > len(method.broken):
            model_folder.add_broken(broken)
        leave()
    return TrainOutcome(
        folder=folder,
        step=result.step,
        row={**logged, **result.losses},
        changes=model_folder.changes,
        interrupted=result.interrupted,
        broken=broken,
    )


def _attend(
    hooks: Hooks, model_folder: ModelFolder, logged: dict[str, float], *, tell: Tell
) -> Hooks:
    """Hooks that also write run file and model, watch it, and check it on labels if asked for.

    Args:
        hooks: to be called as before.
        model_folder: of the run.
        logged: takes the last value of everything that is logged.
        tell: takes warnings.
    """
    run = model_folder.run
    check = open_check(model_folder)
    if check is not None:
        tell("checking the start on labels")
        check.start()

    def on_check(step: int) -> Mapping[str, float]:
        assert check is not None
        found = check(step)
        model_folder.note_check(check.compare(), step=step)
        return found

    def on_start(steps: int) -> None:
        write_run_file(model_folder.folder, run)
        hooks.on_start(steps)

    def on_log(row: Mapping[str, float]) -> None:
        logged.update(row)
        hooks.on_log(row)

    def on_save(step: int) -> None:
        model_folder.write(step)
        hooks.on_save(step)

    attended = replace(hooks, on_start=on_start, on_check=on_check, on_log=on_log, on_save=on_save)
    if not isinstance(run.options, DistillOptions):
        return attended
    kind = run.options.on_collapse
    return watching(attended, folder=model_folder.folder, tell=tell, on_collapse=kind)


@contextmanager
def _memory_in_one_sentence() -> Iterator[None]:
    """Say what helps when there is too little memory, on whatever device.

    Raises:
        TrainingError: there is.
    """
    try:
        yield
    except (MemoryError, RuntimeError, cv2.error) as exc:
        known = isinstance(exc, MemoryError | torch.OutOfMemoryError)
        if not known and not any(sign in str(exc) for sign in _NO_MEMORY):
            raise
        raise TrainingError(
            "There is too little memory; give a smaller --batch-size (with --accumulate the steps "
            "stay as large), a smaller --size, --precision bf16 or --grad-checkpointing."
        ) from exc

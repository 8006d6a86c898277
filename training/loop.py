"""The training loop that every method runs in.

A method is an *objective*: it owns the model and turns a step number into losses. Each step draws
its data and randomness from a generator seeded by (seed, step), so a resumed run repeats exactly
what an uninterrupted one does, and the state to save is weights, optimizer and step.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from atas_deploy.core.errors import CheckpointError, ConfigError, NonFiniteLossError
from atas_deploy.training.checkpoint import (
    append_log,
    cut_log,
    load_checkpoint,
    make_folder,
    save_checkpoint,
)
from atas_deploy.training.schedule import ParameterGroup, learning_rate

Losses = dict[str, Tensor]
PRECISIONS = ("fp32", "bf16")


class Objective(Protocol):
    """A training method."""

    @property
    def model(self) -> nn.Module:
        """The model that is trained and saved."""

    def groups(self) -> list[ParameterGroup]:
        """What the optimizer updates."""

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """Losses of one step by name; "loss" is the one to minimise, the others are logged."""

    def after_step(self) -> None:
        """Keep parameters inside their bounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopSettings:
    """How to optimise.

    Attributes:
        steps: optimizer steps of the whole run.
        learning_rate: peak of the schedule.
        warmup_steps: steps of linear warm-up.
        beta2: decay of AdamW's second moment.
        gradient_clip: largest norm of the gradient.
        precision: "fp32" or "bf16" (autocast; weights, norms and losses stay in float32).
        seed: seed of all randomness.
        log_every: steps between log lines.
        save_every: steps between checkpoints.
    """

    steps: int
    learning_rate: float
    warmup_steps: int = 0
    beta2: float = 0.98
    gradient_clip: float = 1.0
    precision: str = "fp32"
    seed: int = 0
    log_every: int = 10
    save_every: int = 200

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for name in ("steps", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"The learning rate is {self.learning_rate}; give a positive number.")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"Precision {self.precision!r} is unknown; choose {' or '.join(PRECISIONS)}."
            )


@dataclass(frozen=True, slots=True)
class LoopResult:
    """How a run ended.

    Attributes:
        step: steps taken in all.
        losses: the last log row.
        interrupted: the signal that stopped the run early, or None.
    """

    step: int
    losses: Mapping[str, float]
    interrupted: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hooks:
    """What a run tells its caller.

    Attributes:
        on_start: called once with the number of steps left.
        on_step: called after each step.
        on_log: called with each log row.
        on_save: called after each checkpoint with the number of steps taken.
    """

    on_start: Callable[[int], None] = lambda _: None
    on_step: Callable[[], None] = lambda: None
    on_log: Callable[[Mapping[str, float]], None] = lambda _: None
    on_save: Callable[[int], None] = lambda _: None


def run(
    objective: Objective,
    settings: LoopSettings,
    *,
    folder: Path,
    resume: bool = False,
    hooks: Hooks | None = None,
) -> LoopResult:
    """Optimise an objective; save at intervals, at the end and when asked to stop.

    Args:
        objective: the method.
        settings: how to optimise.
        folder: where checkpoint and log go.
        resume: go on from the checkpoint in `folder`.
        hooks: what to call on the way.

    Raises:
        NonFiniteLossError: a loss became NaN or infinite; the last checkpoint stays as it was.
        CheckpointError: the run cannot be resumed.
        OutputError: the folder cannot be written.
    """
    make_folder(folder)
    trainer = _Trainer(objective, settings, folder=folder, hooks=hooks or Hooks())
    if resume:
        trainer.restore(load_checkpoint(folder))
    trainer.last_row = cut_log(folder, steps=trainer.step)
    trainer.hooks.on_start(settings.steps - trainer.step)
    objective.model.train()
    with catch_signals() as received:
        while trainer.step < settings.steps and not received:
            trainer.advance()
    trainer.save()
    objective.model.eval()
    return LoopResult(trainer.step, trainer.last_row, received[0] if received else None)


class _Trainer:
    """Optimizer, counters and files of one run."""

    def __init__(
        self, objective: Objective, settings: LoopSettings, *, folder: Path, hooks: Hooks
    ) -> None:
        self.objective, self.settings, self.folder, self.hooks = objective, settings, folder, hooks
        self.optimizer = torch.optim.AdamW(
            objective.groups(),  # type: ignore[arg-type]  # TypedDicts are dicts
            lr=settings.learning_rate,
            betas=(0.9, settings.beta2),
            eps=1e-6,
        )
        self.parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        self.step = self._saved_at = 0
        self.last_row: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._count = 0
        self._since = time.monotonic()

    def advance(self) -> None:
        """Take one step, log and save where due."""
        rate = self._set_rates()
        losses = self._losses()
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip)
        self.optimizer.step()
        self.objective.after_step()
        self.step += 1
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self.hooks.on_step()
        if self.step % self.settings.log_every == 0 or self.step == self.settings.steps:
            self._log(rate)
        if self.step % self.settings.save_every == 0:
            self.save()

    def save(self) -> None:
        """Write a checkpoint unless this step has one."""
        if self.step == self._saved_at:
            return
        state = {
            "step": self.step,
            "settings": asdict(self.settings),
            "model": self.objective.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.folder, state)
        self._saved_at = self.step
        self.hooks.on_save(self.step)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: it belongs to another model or to other settings.
        """
        frozen = {k: v for k, v in asdict(self.settings).items() if not k.endswith("_every")}
        changed = [k for k, v in frozen.items() if state["settings"].get(k) != v]
        if changed:
            raise CheckpointError(
                f"The run was started with another {', '.join(changed)}; resume it with the same "
                "options, or start a new one in another folder."
            )
        try:
            self.objective.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as exc:
            raise CheckpointError(
                f"The checkpoint in {self.folder} does not fit the model; resume with the same "
                "model and options."
            ) from exc
        self.step = self._saved_at = int(state["step"])

    def _set_rates(self) -> float:
        rate = learning_rate(
            self.step,
            peak=self.settings.learning_rate,
            warmup_steps=self.settings.warmup_steps,
            total_steps=self.settings.steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        return rate

    def _losses(self) -> Losses:
        """Compute the losses of this step and check them."""
        torch.manual_seed((self.settings.seed << 32) + self.step)  # dropout, if a model has any
        rng = np.random.default_rng((self.settings.seed, self.step))
        device = self.parameters[0].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            losses = self.objective.losses(self.step, rng)
        for name, value in losses.items():
            if not bool(torch.isfinite(value)):
                raise NonFiniteLossError(
                    f"{name} became {float(value.detach())} at step {self.step + 1}; lower the "
                    "learning rate or train in fp32, then resume from the last checkpoint."
                )
        return losses

    def _log(self, rate: float) -> None:
        """Write the mean losses since the last log line."""
        now = time.monotonic()
        row = {name: round(total / self._count, 5) for name, total in self._sums.items()}
        self.last_row = {
            "step": self.step,
            "lr": rate,
            "seconds": round(now - self._since, 2),
        } | row
        append_log(self.folder, self.last_row)
        self.hooks.on_log(self.last_row)
        self._sums, self._count, self._since = {}, 0, now


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C in a list instead of dying; a second one is not caught.

    Outside the main thread, where Python allows no handlers, nothing is caught.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)
        _restore(previous)

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, remember)
    except ValueError:
        pass
    try:
        yield received
    finally:
        _restore(previous)


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)

"""How the training loop optimises, what it tells its caller, and how it ended."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atas_deploy.core.errors import ConfigError

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopSettings:
    """How to optimise.

    Attributes:
        steps: optimizer steps of the whole run.
        learning_rate: peak of the schedule.
        warmup_steps: steps of linear warm-up.
        beta2: decay of AdamW's second moment.
        gradient_clip: largest norm of the gradient.
        accumulate: batches of a step; their gradients are averaged.
        precision: "fp32" or "bf16" (autocast; weights, norms and losses stay in float32).
        seed: seed of all randomness.
        log_every: steps between log lines.
        save_every: steps between checkpoints.
        check_every: steps between checks, which are made at the end, too; 0 = none.
    """

    steps: int
    learning_rate: float
    warmup_steps: int = 0
    beta2: float = 0.98
    gradient_clip: float = 1.0
    accumulate: int = 1
    precision: str = "fp32"
    seed: int = 0
    log_every: int = 10
    save_every: int = 200
    check_every: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least {least}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"The learning rate is {self.learning_rate}; give a positive number.")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"Precision {self.precision!r} is unknown; choose {' or '.join(PRECISIONS)}."
            )


_LEAST = {"steps": 1, "accumulate": 1, "log_every": 1, "save_every": 1, "check_every": 0}


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
    """What a run tells its caller; of several processes, rank 0 alone calls them.

    Attributes:
        on_start: called once with the number of steps left.
        on_step: called after each step.
        on_check: called every `check_every` steps with the number of steps taken, the model in
            eval mode; what it returns goes into the log row of that step.
        on_log: called with each log row.
        on_save: called after each checkpoint with the number of steps taken, and once by a run that
            goes on where no step is left.
    """

    on_start: Callable[[int], None] = lambda _: None
    on_step: Callable[[], None] = lambda: None
    on_check: Callable[[int], Mapping[str, float]] = lambda _: {}
    on_log: Callable[[Mapping[str, float]], None] = lambda _: None
    on_save: Callable[[int], None] = lambda _: None

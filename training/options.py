"""The options of a run beside the settings of its method, and where each method has both.

An option has one name everywhere: `--log-every` on the command line, `log_every` in a run file and
as a field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.readouts import check_readout
from atas_deploy.training.atas_settings import AtasSettings
from atas_deploy.training.clipself_settings import ClipSelfSettings
from atas_deploy.training.contrastive_settings import ContrastiveSettings
from atas_deploy.training.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, check_ranges

Method = Literal["atas", "clipself", "contrastive"]
LARGEST_SEED = 2**31 - 1
OF_THE_START, AS_TRAINED = "start", "trained"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Options of all methods.

    Attributes:
        images: folders, globs, lists and tar files.
        model: what to start from, see `open_start`.
        epochs: passes over the images.
        max_steps: optimizer steps; None = as many as `epochs` say.
        batch_size: images that a process takes at once.
        accumulate: batches to one optimizer step.
        lr: peak of the learning rate; None = see `rate_for`.
        warmup_steps: steps of linear warm-up; None = a tenth of all.
        alpha: share of the student in the weights that are saved, see `ensemble`.
        record_readout: the read-out that the model folder names: "start" = that of the start, if it
            names one; "trained" = the one of training; or a read-out.
        grad_checkpointing: compute activations twice rather than keep them.
        device: "cpu", "cuda" or "cuda:N".
        precision: "fp32" or "bf16".
        seed: of all randomness.
        log_every: steps between log lines.
        save_every: steps between checkpoints.
        tensorboard: also write the log for TensorBoard.
        check_images: folder of pictures with labels; None = no check.
        check_labels: folder of their label maps.
        check_panoptic: or their panoptic annotations.
        check_classes: what the labels mean; None = the names of the annotations.
        check_every: steps between checks; None = before and after training only.
        check_max_images: check on the first pictures only.
    """

    images: tuple[str, ...] = ()
    model: str = "atas-tiny"
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 64
    accumulate: int = 1
    lr: float | None = None
    warmup_steps: int | None = None
    alpha: float = 1.0
    record_readout: str = OF_THE_START
    grad_checkpointing: bool = False
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    log_every: int = 10
    save_every: int = 200
    tensorboard: bool = False
    check_images: Path | None = None
    check_labels: Path | None = None
    check_panoptic: Path | None = None
    check_classes: str | None = None
    check_every: int | None = None
    check_max_images: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no run can have."""
        if not 0.0 <= self.alpha <= 1.0:
            raise ConfigError(
                f"--alpha is {self.alpha}; give the student's share of the weights, from 0 to 1."
            )
        own = {name: numbers for name, numbers in _RANGES.items() if hasattr(self, name)}
        check_ranges(self, own, called=flag)
        if self.seed > LARGEST_SEED:
            raise ConfigError(f"--seed is {self.seed}; give {LARGEST_SEED} or less.")
        if self.record_readout not in (OF_THE_START, AS_TRAINED):
            check_readout(self.record_readout)
        self._check_labels()

    def _check_labels(self) -> None:
        """Refuse half of a labelled check."""
        labels = [self.check_labels, self.check_panoptic].count(None)
        named = [name for name in _CHECK if getattr(self, name) is not None]
        if self.check_images is None and named:
            raise ConfigError(
                f"{flag(named[0])} needs --check-images, the folder of the labelled pictures."
            )
        if self.check_images is not None and labels != 1:
            got = "both --check-labels and --check-panoptic" if labels == 0 else "no labels"
            raise ConfigError(
                f"Got --check-images with {got}; give either --check-labels or --check-panoptic."
            )


_CHECK = ("check_labels", "check_panoptic", "check_classes", "check_every", "check_max_images")
_RANGES = {
    "epochs": POSITIVE,
    "max_steps": COUNT,
    "batch_size": COUNT,
    "accumulate": COUNT,
    "lr": POSITIVE,
    "warmup_steps": NOT_NEGATIVE,
    "seed": NOT_NEGATIVE,
    "workers": NOT_NEGATIVE,
    "max_broken": SHARE,
    "log_every": COUNT,
    "save_every": COUNT,
    "check_every": COUNT,
    "check_max_images": COUNT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillOptions(RunOptions):
    """Options of the methods that have a teacher.

    Attributes:
        workers: processes that decode images ahead; 0 = none but the one that trains.
        max_broken: share of the images that may be broken.
        compile: pass the student to `torch.compile`.
        on_collapse: what to do when a watched value leaves its bounds.
    """

    workers: int = 0
    max_broken: float = 0.1
    compile: bool = False
    on_collapse: Literal["warn", "stop"] = "warn"


@dataclass(frozen=True, kw_only=True, slots=True)
class AtasOptions(DistillOptions):
    """Options of ATAS beside its settings.

    Attributes:
        teacher_cache: folder that keeps the teacher's embeddings; None = they are computed anew.
    """

    batch_size: int = 72
    teacher_cache: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSelfOptions(DistillOptions):
    """Options of CLIPSelf beside its settings: it trains one read-out, and that one is best."""

    batch_size: int = 16
    record_readout: str = AS_TRAINED


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveOptions(RunOptions):
    """Options of contrastive training beside its settings.

    Attributes:
        captions: file with the captions of the images.
    """

    lr: float = 1e-5
    captions: Path | None = None


def rate_for(options: RunOptions, width: int) -> float:
    """Learning rate of a run.

    If none is given, 1e-5 is that of ATAS and CLIPSelf for ViT-B and ViT-L. The small towers that
    train in minutes hardly move by it: for them the rates are those that were measured to be good
    for ViT-Ti. CLIPSelf has a lower one, as nothing in its loss holds the class token.

    Args:
        options: of the run.
        width: of the image tower's tokens.
    """
    if options.lr is not None:
        return options.lr
    if width >= _SMALL:
        return 1e-5
    return 3e-4 if isinstance(options, ClipSelfOptions) else 1e-3


_SMALL = 384

OPTIONS: Mapping[Method, type[RunOptions]] = {
    "atas": AtasOptions,
    "clipself": ClipSelfOptions,
    "contrastive": ContrastiveOptions,
}
"""The options of each method, those of all methods among them."""

SETTINGS: Mapping[Method, type[Any]] = {
    "atas": AtasSettings,
    "clipself": ClipSelfSettings,
    "contrastive": ContrastiveSettings,
}
"""What else each method has: its own settings."""


def flag(name: str) -> str:
    """The option as the command line spells it."""
    return f"--{name.replace('_', '-')}"

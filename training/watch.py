"""Watching a student for collapse: how far it may go from its teacher.

A distillation loss can fall while the model is ruined. The one public re-implementation of ATAS
ended at a class cosine of 0.68, a patch cosine of -0.04 and a mean squared error of the patch
similarities of 0.5, which is 0.7 here, where errors are root mean squares; and it lost 5 to 20
points of mIoU. Shorter runs of it that lost little kept a patch cosine of 0.47 and more and an
error of 0.16 at most. The bounds lie between these and those of a run that learns:

- class_cosine, at least 0.85. InfoNCE at temperature 1 on unit vectors cannot be solved, and its
  optimum is the teacher's vector less the batch's mean: with a cosine r between images that is
  sqrt(1 - r) from the teacher, 0.71 for CLIP's r of 0.5, and all of those runs ended near it.
  A class token that is held stays above 0.9.
- patch_cosine, at least 0.2. Training means to move patches, towards the class token of what they
  show; around 0 nothing is left of where they were.
- relation_error, at most 0.45. The largest error that patches of one image can make by becoming
  all the same is about 1 less their mean cosine, 0.5 for CLIP; near that the similarities that
  masks are made of are gone.

A value is the mean over the steps since the last log row. Class and patches are measured on the
images and by the read-out of training, so a read-out that is not trained may be worse off.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atas_deploy.core.errors import TrainingError
from atas_deploy.training.checkpoint import CHECKPOINT
from atas_deploy.training.loop_settings import Hooks


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What a logged value may be.

    Attributes:
        name: of the value in the log.
        called: the same in words.
        sense: what it means to be outside.
        cure: what to do about it.
        least: it should be no less; None = there is no such bound.
        most: it should be no more.
    """

    name: str
    called: str
    sense: str
    cure: str
    least: float | None = None
    most: float | None = None

    def problem(self, row: Mapping[str, float]) -> str | None:
        """One sentence if the value is outside; None if it is inside or not in the row."""
        value = row.get(self.name)
        if value is None:
            return None
        if self.least is not None and value < self.least:
            expected = f"at least {self.least:g}"
        elif self.most is not None and value > self.most:
            expected = f"at most {self.most:g}"
        else:
            return None
        when = f" at step {row['step']}" if "step" in row else ""
        return (
            f"{self.called} is {value:.2f}{when}, expected {expected}: {self.sense}; {self.cure}."
        )


BOUNDS = (
    Bound(
        name="class_cosine",
        called="The cosine of the student's class tokens with the teacher's",
        least=0.85,
        sense="the student forgets what it knew of whole images",
        cure="lower --lr or --alpha or, with atas, raise --global-to-global",
    ),
    Bound(
        name="patch_cosine",
        called="The cosine of the student's patches with the teacher's",
        least=0.2,
        sense="nothing is left of what patches meant",
        cure="lower --lr or, with atas, lower --global-to-local or raise --local-to-local",
    ),
    Bound(
        name="relation_error",
        called="The error of the similarities between patches",
        most=0.45,
        sense="patches no longer tell what belongs together",
        cure="lower --lr or, with atas, raise --local-to-local",
    ),
)


class CollapseWatch:
    """Tells when logged values leave their bounds, of each once until it has returned.

    Args:
        bounds: of the values.
    """

    def __init__(self, bounds: Sequence[Bound] = BOUNDS) -> None:
        self._bounds = bounds
        self._outside: set[str] = set()

    def __call__(self, row: Mapping[str, float]) -> list[str]:
        """A sentence for each value that this log row finds outside, and the last did not."""
        found = {bound.name: bound.problem(row) for bound in self._bounds if bound.name in row}
        news = [
            problem
            for name, problem in found.items()
            if problem is not None and name not in self._outside
        ]
        self._outside -= found.keys()
        self._outside |= {name for name, problem in found.items() if problem is not None}
        return news


def watching(
    hooks: Hooks, *, folder: Path, tell: Callable[[str], None], on_collapse: str = "warn"
) -> Hooks:
    """Hooks of a run that is watched: those given, and a look at each log row.

    The loop logs a step before it saves it, so a step that stops the run leaves the checkpoint, and
    the model, of the last save before it.

    Args:
        hooks: to be called as before; of the row first.
        folder: of the run.
        tell: takes each warning.
        on_collapse: "warn", or "stop" to raise the first warning instead.

    Returns:
        Hooks whose `on_log` raises TrainingError if a value leaves its bounds and the run is to
        stop.
    """
    watch = CollapseWatch()

    def on_log(row: Mapping[str, float]) -> None:
        hooks.on_log(row)
        for problem in watch(row):
            if on_collapse == "stop":
                raise TrainingError(_stopped(problem, folder))
            tell(problem)

    return replace(hooks, on_log=on_log)


def _stopped(problem: str, folder: Path) -> str:
    """The warning, and what is left of the run."""
    left = f"{folder} keeps the last checkpoint and its model, or go on all the same by --resume"
    if not (folder / CHECKPOINT).is_file():
        left = "no checkpoint had been saved; start again"
    return f"{problem[:-1]}; the run was stopped, {left} with --on-collapse warn."

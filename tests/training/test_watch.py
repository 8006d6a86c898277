"""Bounds on how far a student may go from its teacher."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.core.errors import TrainingError
from atas_deploy.training.checkpoint import LOG, load_checkpoint
from atas_deploy.training.loop import Hooks, LocalObjective, LoopSettings, run
from atas_deploy.training.schedule import ParameterGroup, parameter_groups
from atas_deploy.training.watch import BOUNDS, CollapseWatch, watching

HEALTHY = {"class_cosine": 0.91, "patch_cosine": 0.6, "relation_error": 0.15}
FAILED = {"class_cosine": 0.68, "patch_cosine": -0.04, "relation_error": 0.5**0.5}
"""What the public re-implementation of ATAS ended with; its matrix error was a mean square."""


def test_a_healthy_run_is_silent() -> None:
    """From the start, where student and teacher are equal, to what a good run ends with."""
    watch = CollapseWatch()
    assert watch({"step": 1, "class_cosine": 1.0, "patch_cosine": 1.0, "relation_error": 0.0}) == []
    assert watch({"step": 2, "loss": 9.0, **HEALTHY}) == []


@pytest.mark.parametrize("name", FAILED)
def test_each_value_of_the_run_that_failed_alarms(name: str) -> None:
    """By itself, in a sentence with the value, the step and the bound."""
    (problem,) = CollapseWatch()({"step": 40, **HEALTHY, name: FAILED[name]})
    (bound,) = [bound for bound in BOUNDS if bound.name == name]
    limit = bound.least if bound.most is None else bound.most
    assert f" is {FAILED[name]:.2f} at step 40, expected at " in problem
    assert f"{limit:g}: " in problem
    assert problem.count(". ") == 0
    assert problem.endswith(".")


def test_bounds_lie_on_the_right_side_of_theory() -> None:
    """The optimum of InfoNCE at temperature 1 alarms; patches that are all the same do, too."""
    generator = torch.Generator().manual_seed(0)

    def vectors(count: int) -> Tensor:
        """Unit vectors with cosines around 0.5."""
        common = F.normalize(torch.randn(1, 512, generator=generator), dim=-1)
        return F.normalize(common + F.normalize(torch.randn(count, 512, generator=generator)))

    teacher = vectors(2000)
    cosines = teacher @ teacher.T
    assert 0.45 < cosines.mean() < 0.55
    optimum = F.normalize(teacher - teacher.mean(dim=0), dim=-1)
    error = (1 - cosines).square().mean().sqrt()
    row = {
        "class_cosine": float((optimum * teacher).sum(dim=-1).mean()),
        "relation_error": float(error),
    }
    assert len(CollapseWatch()(row)) == 2


def test_a_value_is_told_once_until_it_has_returned() -> None:
    """Rows without it change nothing."""
    watch = CollapseWatch()
    bad, good = {"patch_cosine": 0.0}, {"patch_cosine": 0.5}
    told = [len(watch(row)) for row in (bad, bad, {"loss": 1.0}, bad, good, bad, bad)]
    assert told == [1, 0, 0, 0, 0, 1, 0]


class Decay(LocalObjective):
    """Trains a model to nothing, and logs a patch cosine that falls by 0.3 a step."""

    def __init__(self, clip: ClipModel) -> None:
        self.model = clip.model

    def groups(self) -> list[ParameterGroup]:
        """All of it."""
        return parameter_groups(self.model.named_parameters(), weight_decay=0.0, layer_decay=1.0)

    def losses(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """The norm of a matrix."""
        return {
            "loss": self.model.visual.proj.square().sum(),
            "patch_cosine": torch.tensor(1.0 - 0.3 * step),
        }


def decay(clip: ClipModel, folder: Path, *, on_collapse: str, save_every: int = 1) -> list[str]:
    """Run five steps, watched; returns what was told."""
    told: list[str] = []
    settings = LoopSettings(steps=5, learning_rate=1e-3, log_every=1, save_every=save_every)
    hooks = watching(Hooks(), folder=folder, tell=told.append, on_collapse=on_collapse)
    run(Decay(clip), settings, folder=folder, hooks=hooks)
    return told


def test_a_run_goes_on_with_a_warning(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """One, at the step that leaves the bound."""
    (problem,) = decay(tiny_clip, tmp_path, on_collapse="warn")
    assert " is 0.10 at step 4, expected at least 0.2" in problem
    assert load_checkpoint(tmp_path)["step"] == 5


def test_a_run_stops_with_its_last_good_checkpoint(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """The row that stops it is in the log, its step is not saved."""
    with pytest.raises(TrainingError, match=r"is 0\.10 at step 4.*keeps the last checkpoint"):
        decay(tiny_clip, tmp_path, on_collapse="stop")
    assert load_checkpoint(tmp_path)["step"] == 3
    assert len((tmp_path / LOG).read_text().splitlines()) == 4


def test_without_a_checkpoint_nothing_is_promised(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """The run stopped before its first save."""
    with pytest.raises(TrainingError, match="no checkpoint had been saved; start again"):
        decay(tiny_clip, tmp_path, on_collapse="stop", save_every=9)
    assert not list(tmp_path.glob("*.pt"))


def test_rows_reach_the_callers_hook_first(tmp_path: Path) -> None:
    """Also the one that stops the run."""
    rows: list[object] = []
    hooks = watching(
        Hooks(on_log=rows.append), folder=tmp_path, tell=lambda _: None, on_collapse="stop"
    )
    with pytest.raises(TrainingError):
        hooks.on_log({"step": 3, **FAILED})
    assert rows == [{"step": 3, **FAILED}]

"""TensorBoard events of a run."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atas_deploy.core.errors import BackendUnavailableError
from atas_deploy.training.checkpoint import CHECKPOINT
from atas_deploy.training.events import EVENTS, open_events
from atas_deploy.training.loop import Hooks, LocalObjective, LoopSettings, run
from atas_deploy.training.schedule import ParameterGroup, parameter_groups


class Line(LocalObjective):
    """Shrinks a number."""

    def __init__(self) -> None:
        self.model: nn.Module = nn.Linear(1, 1)

    def groups(self) -> list[ParameterGroup]:
        """All parameters."""
        return parameter_groups(self.model.named_parameters(), weight_decay=0.0)

    def losses(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Its square."""
        loss = self.model(torch.ones(1, 1)).square().mean()
        return {"loss": loss, "batch": torch.tensor(float(step))}


def train(folder: Path, *, stop: int | None, log_every: int) -> None:
    """Eight steps with events, or fewer; go on if there are some already."""
    count = iter(range(1, 9))
    hooks = Hooks(on_step=lambda: signal.raise_signal(15) if next(count) == stop else None)
    settings = LoopSettings(steps=8, learning_rate=0.1, log_every=log_every)
    resume = (folder / CHECKPOINT).exists()
    run(Line(), settings, folder=folder, resume=resume, hooks=hooks, tensorboard=True)


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    """Steps and values of a curve as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / EVENTS))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_each_value_of_a_row_is_a_curve(tmp_path: Path) -> None:
    """Over steps, and a resumed run goes on with the same curves."""
    pytest.importorskip("tensorboard")
    train(tmp_path, stop=4, log_every=2)
    train(tmp_path, stop=None, log_every=2)
    assert curve(tmp_path, "batch") == [(2, 0.5), (4, 2.5), (6, 4.5), (8, 6.5)]
    assert len(curve(tmp_path, "loss")) == len(curve(tmp_path, "lr")) == 4


def test_steps_that_are_taken_again_are_hidden(tmp_path: Path) -> None:
    """A crash behind the last checkpoint leaves events that the resumed run replaces."""
    pytest.importorskip("tensorboard")
    with open_events(tmp_path, step=0) as write:
        for step in (1, 2, 3):
            write({"step": step, "loss": 1.0})
    with open_events(tmp_path, step=1) as write:
        write({"step": 2, "loss": 5.0})
    assert curve(tmp_path, "loss") == [(1, 1.0), (2, 5.0)]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(BackendUnavailableError, match=r"atas-deploy\[tensorboard\]"),
        open_events(tmp_path, step=0),
    ):
        pass

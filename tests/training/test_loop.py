"""The training loop: resuming, stopping, failing."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atas_deploy.core.errors import CheckpointError, ConfigError, NonFiniteLossError
from atas_deploy.training.checkpoint import CHECKPOINT, LOG
from atas_deploy.training.loop import Hooks, LoopSettings, run
from atas_deploy.training.schedule import ParameterGroup, parameter_groups


class Regression:
    """Fits a line to noise drawn anew each step."""

    def __init__(self, poison: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(3, 1)
        self.poison = poison

    def groups(self) -> list[ParameterGroup]:
        """All parameters."""
        return parameter_groups(self.model.named_parameters(), weight_decay=0.1)

    def losses(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Squared distance to the sum of the inputs; infinite at the poisoned step."""
        x = torch.from_numpy(rng.normal(size=(8, 3))).float()
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": loss * torch.inf if step == self.poison else loss}

    def after_step(self) -> None:
        """Nothing to bound."""


def settings(**changes: object) -> LoopSettings:
    """Twelve quick steps."""
    base = {"steps": 12, "learning_rate": 0.1, "warmup_steps": 2, "log_every": 3, "save_every": 5}
    return LoopSettings(**{**base, **changes})  # type: ignore[arg-type]


def weights(objective: Regression) -> Tensor:
    """The model's weights as one vector."""
    return torch.cat([p.detach().flatten() for p in objective.model.parameters()])


def stop_at(step: int, number: int) -> Hooks:
    """Send ourselves a signal after some steps."""
    count = iter(range(1, 1000))
    return Hooks(on_step=lambda: os.kill(os.getpid(), number) if next(count) == step else None)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    """Sixty steps fit the line."""
    result = run(Regression(), settings(steps=60), folder=tmp_path)
    first = json.loads((tmp_path / LOG).read_text().splitlines()[0])["loss"]
    assert result.losses["loss"] < 0.2 * first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop", [4, 5, 7])
def test_a_stopped_run_resumes_exactly(tmp_path: Path, number: int, stop: int) -> None:
    """Stopped by a signal and resumed, it ends with the very weights of an unbroken run."""
    whole, first, second = Regression(), Regression(), Regression()
    run(whole, settings(), folder=tmp_path / "whole")
    stopped = run(first, settings(), folder=tmp_path / "a", hooks=stop_at(stop, number))
    assert (stopped.step, stopped.interrupted) == (stop, number)
    assert run(second, settings(), folder=tmp_path / "a", resume=True).interrupted is None
    assert torch.equal(weights(whole), weights(second))


def test_signals_work_as_before_afterwards(tmp_path: Path) -> None:
    """The handlers of the caller are back in place."""
    before = signal.getsignal(signal.SIGINT)
    run(Regression(), settings(), folder=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_infinite_loss_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    """The last good checkpoint stays as it was."""
    with pytest.raises(NonFiniteLossError, match="inf at step 8"):
        run(Regression(poison=7), settings(), folder=tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["step"] == 5
    assert all(torch.isfinite(t).all() for t in state["model"].values())


def test_the_log_has_each_step_once_after_resuming(tmp_path: Path) -> None:
    """Rows behind the checkpoint are dropped when their steps are taken again."""
    with pytest.raises(NonFiniteLossError):
        run(Regression(poison=9), settings(), folder=tmp_path)
    run(Regression(), settings(), folder=tmp_path, resume=True)
    steps = [json.loads(row)["step"] for row in (tmp_path / LOG).read_text().splitlines()]
    assert steps == [3, 6, 9, 12]


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    """The message names what changed."""
    run(Regression(), settings(), folder=tmp_path)
    with pytest.raises(CheckpointError, match="another learning_rate"):
        run(Regression(), settings(learning_rate=0.2), folder=tmp_path, resume=True)


def test_resuming_from_nothing_is_refused(tmp_path: Path) -> None:
    """There has to be a checkpoint."""
    with pytest.raises(CheckpointError, match="no checkpoint"):
        run(Regression(), settings(), folder=tmp_path, resume=True)


def test_resuming_from_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    """A cut-off file is an error of one sentence."""
    run(Regression(), settings(), folder=tmp_path)
    content = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(Regression(), settings(), folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"learning_rate": float("nan")}, {"precision": "fp8"}]
)
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    """They are refused before anything is loaded."""
    with pytest.raises(ConfigError):
        settings(**change)

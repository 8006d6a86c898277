"""The training loop: resuming, stopping, failing."""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atas_deploy.core.errors import CheckpointError, ConfigError, NonFiniteLossError
from atas_deploy.training.checkpoint import CHECKPOINT, LOG
from atas_deploy.training.loop import Hooks, LocalObjective, LoopSettings, run
from atas_deploy.training.schedule import ParameterGroup, parameter_groups


class Regression(LocalObjective):
    """Fits a line to noise drawn anew each batch."""

    def __init__(self, poison: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(3, 1)
        self.poison = poison
        self.step = 0

    def groups(self) -> list[ParameterGroup]:
        """All parameters."""
        return parameter_groups(self.model.named_parameters(), weight_decay=0.1)

    def losses(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Squared distance to the sum of the inputs; infinite at the poisoned step."""
        self.step = step
        x = torch.from_numpy(rng.normal(size=(8, 3))).float()
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": loss * torch.inf if step == self.poison else loss}

    def batch_names(self) -> Sequence[str]:
        """Eight made-up files."""
        return [f"{self.step}-{i}.jpg" for i in range(8)]


def settings(**changes: object) -> LoopSettings:
    """Twelve quick steps."""
    base = {"steps": 12, "learning_rate": 0.1, "warmup_steps": 2, "log_every": 3, "save_every": 5}
    return LoopSettings(**{**base, **changes})  # type: ignore[arg-type]


def weights(objective: Regression) -> Tensor:
    """The model's weights as one vector."""
    return torch.cat([p.detach().flatten() for p in objective.model.parameters()])


def logged_steps(folder: Path) -> list[int]:
    """The step of each row of the log."""
    return [json.loads(row)["step"] for row in (folder / LOG).read_text().splitlines()]


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
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_stopped_run_resumes_exactly(
    tmp_path: Path, number: int, stop: int, accumulate: int
) -> None:
    """Stopped by a signal and resumed, it ends with the very weights of an unbroken run."""
    whole, first, second = Regression(), Regression(), Regression()
    own = settings(accumulate=accumulate)
    run(whole, own, folder=tmp_path / "whole")
    stopped = run(first, own, folder=tmp_path / "a", hooks=stop_at(stop, number))
    assert (stopped.step, stopped.interrupted) == (stop, number)
    assert run(second, own, folder=tmp_path / "a", resume=True).interrupted is None
    assert torch.equal(weights(whole), weights(second))


def test_accumulated_gradients_are_averaged(tmp_path: Path) -> None:
    """One step of two batches goes along the mean of the gradients of both."""
    trained, twin = Regression(), Regression()
    run(trained, settings(steps=1, accumulate=2, warmup_steps=0), folder=tmp_path)
    losses = [twin.losses(i, np.random.default_rng((0, i)))["loss"] for i in range(2)]
    sum(losses).backward()
    optimizer = torch.optim.AdamW(twin.groups(), lr=0.1, betas=(0.9, 0.98), eps=1e-6)
    for parameter in twin.model.parameters():
        parameter.grad /= 2
    torch.nn.utils.clip_grad_norm_(twin.model.parameters(), 1.0)
    optimizer.step()
    torch.testing.assert_close(weights(trained), weights(twin))


def test_accumulated_batches_are_all_logged(tmp_path: Path) -> None:
    """A row's loss is the mean over all batches, and each image counts for the speed."""
    rows: list[Mapping[str, float]] = []
    trained, twin = Regression(), Regression()
    own = settings(steps=1, accumulate=2, learning_rate=1e-9)
    run(trained, own, folder=tmp_path, hooks=Hooks(on_log=rows.append))
    losses = [twin.losses(i, np.random.default_rng((0, i)))["loss"] for i in range(2)]
    assert rows[0]["loss"] == pytest.approx(sum(losses).item() / 2, abs=1e-5)
    assert rows[0]["images_per_second"] > 0


def test_a_signal_in_the_last_step_comes_too_late(tmp_path: Path) -> None:
    """All steps are done, so nothing was interrupted."""
    result = run(Regression(), settings(), folder=tmp_path, hooks=stop_at(12, signal.SIGTERM))
    assert (result.step, result.interrupted) == (12, None)


def test_a_signal_does_not_break_the_last_save(tmp_path: Path) -> None:
    """The handler of the caller does not get it while files are written."""
    reached: list[int] = []
    hooks = Hooks(on_save=lambda _: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, lambda number, _: reached.append(number))
    try:
        run(Regression(), settings(save_every=99), folder=tmp_path, hooks=hooks)
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == []


def test_a_run_without_steps_left_tells_of_its_checkpoint(tmp_path: Path) -> None:
    """Once, so that the model can be written; the checkpoint stays as it is."""
    saved: list[int] = []
    run(Regression(), settings(), folder=tmp_path)
    before = (tmp_path / CHECKPOINT).stat()
    run(Regression(), settings(), folder=tmp_path, resume=True, hooks=Hooks(on_save=saved.append))
    after = (tmp_path / CHECKPOINT).stat()
    assert saved == [12]
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_signals_work_as_before_afterwards(tmp_path: Path) -> None:
    """The handlers of the caller are back in place."""
    before = signal.getsignal(signal.SIGINT)
    run(Regression(), settings(), folder=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_infinite_loss_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    """The last good checkpoint stays as it was."""
    with pytest.raises(NonFiniteLossError, match="inf at step 8") as error:
        run(Regression(poison=7), settings(), folder=tmp_path)
    assert "7-0.jpg, 7-1.jpg, 7-2.jpg, 7-3.jpg, 7-4.jpg and 3 more" in str(error.value)
    assert f"step 5 in {tmp_path}" in str(error.value)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["step"] == 5
    assert all(torch.isfinite(t).all() for t in state["model"].values())


def test_only_the_bad_batch_of_a_step_is_named(tmp_path: Path) -> None:
    """Of two accumulated batches the second is infinite; nothing has been saved yet."""
    with pytest.raises(NonFiniteLossError, match="no checkpoint") as error:
        run(Regression(poison=3), settings(accumulate=2), folder=tmp_path)
    assert "at step 2 (files 3-0.jpg" in str(error.value)
    assert "2-0.jpg" not in str(error.value)


class SteepRegression(Regression):
    """Its loss is finite throughout, its gradient is not from batch 6 on."""

    def losses(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """The square root of nothing is flat on one side only."""
        loss = super().losses(step, rng)["loss"]
        return {"loss": loss + (0 * loss).sqrt() if step >= 6 else loss}


def test_an_infinite_gradient_stops_the_run(tmp_path: Path) -> None:
    """The loss is finite, but the weights would not stay so."""
    with pytest.raises(NonFiniteLossError, match=r"gradient became nan at step 7 \(files 6-0"):
        run(SteepRegression(), settings(), folder=tmp_path)


class Checked(Regression):
    """Tells how it is checked."""

    def check(self, step: int) -> dict[str, float]:
        """A value, and whether the model was in eval mode."""
        return {"checked": step, "training": float(self.model.training)}


def test_checks_go_into_the_row_of_their_step(tmp_path: Path) -> None:
    """Every fifth step and at the end, in eval mode; training goes on in training mode."""
    objective = Checked()
    modes: list[bool] = []
    hooks = Hooks(on_check=objective.check, on_step=lambda: modes.append(objective.model.training))
    run(objective, settings(log_every=6, check_every=5), folder=tmp_path, hooks=hooks)
    rows = [json.loads(row) for row in (tmp_path / LOG).read_text().splitlines()]
    assert [(row["step"], row.get("checked")) for row in rows] == [
        (5, 5),
        (6, None),
        (10, 10),
        (12, 12),
    ]
    assert {row["training"] for row in rows if "training" in row} == {0.0}
    assert all(modes)


def test_checks_change_nothing(tmp_path: Path) -> None:
    """A check that draws random numbers leaves the run as it is."""
    plain, checked = Regression(), Regression()
    run(plain, settings(), folder=tmp_path / "a")
    hooks = Hooks(on_check=lambda _: {"drawn": float(torch.rand(()))})
    run(checked, settings(check_every=1), folder=tmp_path / "b", hooks=hooks)
    assert torch.equal(weights(plain), weights(checked))


@pytest.mark.parametrize(
    "rest",
    [
        b'{"step": 7, "lo',
        b"\0" * 64,
        b'{"step": 4}{"step": 5}\n',
        b'{"step": 4, "loss": "\xff"}\n',
        b'[4]\n4\nnull\n{}\n{"loss": 1}\n{"step": "4"}\n',
        b"[" * 10_000 + b"\n",
    ],
)
def test_what_is_no_row_of_the_log_is_forgotten(tmp_path: Path, rest: bytes) -> None:
    """What a crash leaves there does not keep the run from going on."""
    run(Regression(), settings(), folder=tmp_path, hooks=stop_at(7, signal.SIGTERM))
    with (tmp_path / LOG).open("ab") as file:
        file.write(rest)
    run(Regression(), settings(), folder=tmp_path, resume=True)
    assert logged_steps(tmp_path) == [3, 6, 7, 9, 12]


def test_the_steps_before_a_stop_are_logged(tmp_path: Path) -> None:
    """A row of its own has the mean over those since the row before; it is in what is returned."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(Regression(), settings(log_every=1), folder=whole)
    each = [json.loads(row)["loss"] for row in (whole / LOG).read_text().splitlines()]
    result = run(Regression(), settings(), folder=stopped, hooks=stop_at(8, signal.SIGTERM))
    assert logged_steps(stopped) == [3, 6, 8]
    assert result.losses["step"] == 8
    assert result.losses["lr"] == pytest.approx(0.1 * rate_at(7))
    assert result.losses["loss"] == pytest.approx(sum(each[6:8]) / 2, abs=2e-5)


def rate_at(step: int) -> float:
    """Share of the peak: two steps of warm-up, then a half cosine over ten."""
    return 0.5 * (1 + float(np.cos(np.pi * (step - 2) / 10)))


def test_the_log_has_each_step_once_after_resuming(tmp_path: Path) -> None:
    """Rows behind the checkpoint are dropped when their steps are taken again."""
    with pytest.raises(NonFiniteLossError):
        run(Regression(poison=9), settings(), folder=tmp_path)
    run(Regression(), settings(), folder=tmp_path, resume=True)
    assert logged_steps(tmp_path) == [3, 6, 9, 12]


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    """The message names what changed."""
    run(Regression(), settings(), folder=tmp_path)
    other = settings(learning_rate=0.2, accumulate=2, save_every=1)
    with pytest.raises(CheckpointError, match="another learning_rate, accumulate"):
        run(Regression(), other, folder=tmp_path, resume=True)


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
    "content",
    [
        {},
        [1, 2],
        torch.zeros(3),
        {"state_dict": {"weight": torch.zeros(3)}},
        {"step": "5", "settings": {}, "model": {}, "optimizer": {}},
        {"step": 5, "settings": asdict(settings()), "model": {}, "optimizer": {}},
        {
            "step": 5,
            "settings": asdict(settings()),
            "model": nn.Linear(3, 1).state_dict(),
            "optimizer": {},
        },
        {
            "step": 5,
            "settings": asdict(settings()),
            "model": nn.Linear(3, 1).state_dict(),
            "optimizer": {"state": [], "param_groups": [1, 2]},
        },
    ],
)
def test_resuming_from_what_is_no_checkpoint_of_a_run_is_refused(
    tmp_path: Path, content: object
) -> None:
    """Whatever torch reads from the file, the answer is one sentence."""
    torch.save(content, tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match=r"is no checkpoint of a run|does not fit the model"):
        run(Regression(), settings(), folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"accumulate": 0},
        {"check_every": -1},
        {"learning_rate": float("nan")},
        {"precision": "fp8"},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    """They are refused before anything is loaded."""
    with pytest.raises(ConfigError):
        settings(**change)

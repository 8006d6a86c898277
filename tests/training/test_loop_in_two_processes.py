"""The training loop in two processes: one update, one stop, one message."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atas_deploy.core.errors import CheckpointError, NonFiniteLossError, TrainingError
from atas_deploy.training.checkpoint import CHECKPOINT, LOG
from atas_deploy.training.distributed import SINGLE, Group, join, keeps_local, leave
from atas_deploy.training.loop import Hooks, LocalObjective, LoopResult, LoopSettings, run
from atas_deploy.training.schedule import ParameterGroup, parameter_groups

Call = Callable[..., list[Any]]


class Shared(LocalObjective):
    """Fits a line to eight points a batch, of which each process sees its part.

    Attributes:
        poison: batch whose loss is infinite in the last process.
        signal: batch in which the last process is told to stop.
        fail: batch that the last process cannot read.
    """

    def __init__(
        self,
        group: Group,
        *,
        poison: int | None = None,
        signal: int | None = None,
        fail: int | None = None,
    ) -> None:
        torch.manual_seed(group.rank)
        self.model: nn.Module = nn.Linear(3, 1)
        self.wrapped = group.wrap(self.model)
        self.group, self.step = group, 0
        last = group.rank == group.world - 1
        self.poison, self.signal, self.fail = (x if last else None for x in (poison, signal, fail))

    def groups(self) -> list[ParameterGroup]:
        """All parameters."""
        return parameter_groups(self.model.named_parameters(), weight_decay=0.1)

    def losses(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Mean squared distance of the process's points to the sums of their inputs."""
        self.step = step
        if step == self.signal:
            os.kill(os.getpid(), signal.SIGTERM)
        if step == self.fail:
            raise TrainingError("The images cannot be read.")
        x = torch.from_numpy(rng.normal(size=(8, 3))).float().chunk(self.group.world)
        own = x[self.group.rank]
        loss = (self.wrapped(own) - own.sum(1, keepdim=True)).square().mean()
        return {"loss": loss * torch.inf if step == self.poison else loss}

    def batch_names(self) -> Sequence[str]:
        """A made-up file for each point."""
        return [f"{self.group.rank}-{self.step}-{i}.jpg" for i in range(8 // self.group.world)]

    def no_sync(self) -> AbstractContextManager[None]:
        """Gradients stay in the process."""
        return keeps_local(self.wrapped)


def train(
    group: Group, folder: Path, events: dict[str, int], *, resume: bool = False, **changes: int
) -> tuple[LoopResult, Tensor]:
    """How a run ended and with which weights."""
    base = {"steps": 12, "warmup_steps": 2, "log_every": 3, "save_every": 5}
    settings = LoopSettings(learning_rate=0.1, **{**base, **changes})  # type: ignore[arg-type]
    objective = Shared(group, **events)
    result = run(objective, settings, folder=folder, group=group, resume=resume)
    return result, torch.cat([p.detach().flatten() for p in objective.model.parameters()])


def accumulate(group: Group, folder: Path) -> tuple[LoopResult, Tensor]:
    """Three batches a step."""
    return train(group, folder, {}, accumulate=3)


def stop_and_resume(group: Group, folder: Path) -> tuple[LoopResult, Tensor]:
    """A run of three batches a step that is stopped in the last process and goes on."""
    train(group, folder, {"signal": 20}, accumulate=3)
    return train(group, folder, {}, resume=True, accumulate=3)


def test_two_processes_train_as_one(in_two_processes: Call, tmp_path: Path) -> None:
    """Weights and logged losses are those of one process with all points."""
    one, expected = accumulate(SINGLE, tmp_path / "one")
    for two, weights in in_two_processes(accumulate, tmp_path / "two"):
        torch.testing.assert_close(weights, expected, atol=1e-5, rtol=0)
        assert two.losses["loss"] == pytest.approx(one.losses["loss"], abs=2e-5)


def test_a_run_of_two_processes_resumes_exactly(in_two_processes: Call, tmp_path: Path) -> None:
    """Both end with the very weights of a run that was not stopped."""
    (_, whole), _ = in_two_processes(accumulate, tmp_path / "whole")
    for result, weights in in_two_processes(stop_and_resume, tmp_path / "stopped"):
        assert (result.step, result.interrupted) == (12, None)
        assert torch.equal(weights, whole)


def test_a_signal_to_one_process_stops_both(in_two_processes: Call, tmp_path: Path) -> None:
    """They stop after the same step, with one checkpoint of it."""
    results = in_two_processes(train, tmp_path, {"signal": 6})
    assert [(r.step, r.interrupted) for r, _ in results] == [(7, signal.SIGTERM)] * 2
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 7


def test_an_infinite_loss_in_one_process_stops_both(in_two_processes: Call, tmp_path: Path) -> None:
    """Rank 0 names step, the other's files and the last checkpoint, which stays."""
    zero, one = in_two_processes(train, tmp_path, {"poison": 7})
    assert isinstance(zero, NonFiniteLossError)
    assert "loss became inf at step 8 (files 1-7-0.jpg, 1-7-1.jpg, 1-7-2.jpg, 1-7-3.jpg)" in str(
        zero
    )
    assert f"step 5 in {tmp_path}" in str(zero)
    assert isinstance(one, SystemExit)
    assert one.code == 1
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["step"] == 5
    assert all(torch.isfinite(t).all() for t in state["model"].values())


def test_an_error_in_one_process_stops_both(in_two_processes: Call, tmp_path: Path) -> None:
    """The one says what is wrong; the other, in the middle of a step, that it is left alone."""
    zero, one = in_two_processes(train, tmp_path, {"fail": 7})
    assert [type(zero), type(one)] == [TrainingError, TrainingError]
    assert "Another process" in str(zero)
    assert "cannot be read" in str(one)


def count_hooks(group: Group, folder: Path) -> list[str]:
    """Which hooks this process calls."""
    called: list[str] = []
    hooks = Hooks(
        on_start=lambda _: called.append("start"),
        on_step=lambda: called.append("step"),
        on_check=lambda _: called.append("check") or {},
        on_log=lambda _: called.append("log"),
        on_save=lambda _: called.append("save"),
    )
    settings = LoopSettings(steps=2, learning_rate=0.1, check_every=2)
    run(Shared(group), settings, folder=folder, group=group, hooks=hooks)
    return called


def test_rank_0_alone_writes_and_tells(in_two_processes: Call, tmp_path: Path) -> None:
    """Each row is in the log once, and the other process calls no hook."""
    zero, one = in_two_processes(count_hooks, tmp_path)
    assert zero == ["start", "step", "step", "check", "log", "save"]
    assert one == []
    assert [json.loads(row)["step"] for row in (tmp_path / LOG).read_text().splitlines()] == [2]


def test_resuming_with_another_number_of_processes_is_refused(
    in_two_processes: Call, tmp_path: Path
) -> None:
    """Their batches would be others."""
    in_two_processes(train, tmp_path, {})
    with pytest.raises(CheckpointError, match="another number of processes"):
        train(SINGLE, tmp_path, {}, resume=True)


def test_torchrun_starts_and_stops_a_run(tmp_path: Path) -> None:
    """SIGTERM to torchrun reaches both processes, which save the same step and end well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    process = subprocess.Popen([*command, __file__, tmp_path])
    started = tmp_path / LOG
    for _ in range(3000):
        if process.poll() is not None or (started.exists() and started.stat().st_size):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.wait(300)
    step = torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"]
    assert step > 0
    assert {path.read_text() for path in tmp_path.glob("ended-*")} == {f"{step} {signal.SIGTERM}"}
    assert len(list(tmp_path.glob("ended-*"))) == 2


def main(folder: Path) -> None:
    """What torchrun runs: a run without end."""
    group = join(torch.device("cpu"))
    result, _ = train(group, folder, {}, steps=10**9, log_every=1, save_every=10**9)
    (folder / f"ended-{group.rank}").write_text(f"{result.step} {result.interrupted}")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

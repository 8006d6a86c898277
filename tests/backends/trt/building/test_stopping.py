"""A build can be stopped, and leaves nothing behind."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from atas_deploy.backends.trt import builder
from atas_deploy.backends.trt.builder import build_engine
from atas_deploy.backends.trt.engines import list_engines
from atas_deploy.backends.trt.machine import Machine
from atas_deploy.backends.trt.profiles import Profile
from atas_deploy.backends.trt.stopping import held_signals, stop_when
from atas_deploy.core.bundle import Bundle

ONE = (Profile((1, 64, 64), (1, 64, 96), (2, 128, 128)),)


def test_signals_are_delivered_when_the_block_ends() -> None:
    """Not before, once, and to the handler that was there."""
    before = signal.getsignal(signal.SIGINT)
    steps = []

    def interrupted() -> None:
        with held_signals() as stopped:
            steps.append(stopped())
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            steps.append(stopped())

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == [False, True]
    assert signal.getsignal(signal.SIGINT) is before


def test_ignored_signals_stay_ignored() -> None:
    """A build under nohup goes on when its terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_signals() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_ends_a_build(
    make_bundle: Callable[..., Bundle], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT leaves at its next step, and no engine is written."""
    asked = []

    def after_one_step(module: Any, stopped: Callable[[], bool]) -> Any:
        def step() -> bool:
            if not asked:
                signal.raise_signal(signal.SIGINT)
            asked.append(stopped())
            return stopped()

        return stop_when(module, step)

    monkeypatch.setattr(builder, "stop_when", after_one_step)
    bundle = make_bundle()
    with pytest.raises(KeyboardInterrupt):
        build_engine(bundle, machine, profiles=ONE)
    assert asked
    assert all(asked)
    assert len(asked) < 10
    assert not list_engines(bundle)

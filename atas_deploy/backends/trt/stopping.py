"""Ctrl-C during a build: TensorRT swallows what is raised in its callbacks, and would go on."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextmanager
def held_signals() -> Iterator[Callable[[], bool]]:
    """Hold back signals that end the process until the block ends; yield whether one came.

    What is ignored, as SIGHUP under nohup, stays so. Outside the main thread nothing is held back,
    as Python delivers no signals there.
    """
    came: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        came.append(number)

    known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    numbers = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        previous = {number: signal.signal(number, hold) for number in numbers}
    except ValueError:  # not in the main thread
        previous = {}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])


def stop_when(module: Any, stopped: Callable[[], bool]) -> Any:
    """A progress monitor that ends a build between two of its steps.

    Args:
        module: of the flavour.
        stopped: asked after each step.
    """

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            pass

        def phase_finish(self, name: str) -> None:
            pass

        def step_complete(self, name: str, step: int) -> bool:
            return not stopped()

    return Monitor()

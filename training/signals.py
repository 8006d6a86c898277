"""SIGTERM and Ctrl-C as something that a loop asks for between its steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def catch_signals(*, repeated: bool = False) -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C in a list instead of dying.

    Outside the main thread, where Python allows no handlers, nothing is caught.

    Args:
        repeated: catch a second one, too. torchrun passes on what a job scheduler may have sent to
            all processes already; a person who presses Ctrl-C twice means it.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)
        if not repeated:
            _restore(previous)

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, remember)
    except ValueError:
        pass
    try:
        yield received
    finally:
        _restore(previous)


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)

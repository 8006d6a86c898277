"""Ctrl-C and SIGTERM, put off for the moment in which files are finished."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

Handler = Callable[[int, FrameType | None], Any]
STOPS = (KeyboardInterrupt, SystemExit)
"""What the handlers of these signals raise."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Stops:
    """While entered, the first signal that has a handler reaches it, but never inside `hold`.

    Later ones are passed over: the first is being obeyed, and files are finished. Outside the main
    thread this does nothing: signals come to the main thread only.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Handler] = {}
        self._held, self._obeyed = False, False
        self._caught: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> Self:
        for name in _NAMES:
            number = getattr(signal, name, None)
            handler = None if number is None else signal.getsignal(number)
            if number is None or not callable(handler):
                continue
            try:
                signal.signal(number, self._handle)
            except ValueError:  # not the main thread
                break
            self._previous[number] = handler
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._caught = self._caught or (number, frame)
        else:
            self._obey(number, frame)

    def _obey(self, number: int, frame: FrameType | None) -> None:
        if not self._obeyed:
            self._obeyed = True
            self._previous[number](number, frame)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let the block finish first; a signal that came meanwhile takes effect behind it."""
        outer, self._held = self._held, True
        try:
            yield
        finally:
            self._held = outer
            if self._caught is not None and not outer:
                number, frame = self._caught
                self._caught = None
                self._obey(number, frame)

"""Stages that overlap: each runs in a thread of its own, a few items ahead of the next."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL = 0.1  # seconds until a blocked stage looks whether it is still wanted


class _End:
    """The last item of a stage, with the error that ended it, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(source: Iterable[T], *, depth: int = 1) -> Generator[T]:
    """Run an iterator in a thread, up to `depth` items ahead of the consumer.

    An error in the source is raised here, after the items before it. When the consumer stops,
    early or by an error of its own, the source is closed and its thread ends; a source that waits
    for something outside, such as a camera, ends when that wait does.

    Args:
        source: what to iterate over; its generator is closed in its own thread.
        depth: items that may wait.
    """
    stage = _Stage(source, depth)
    thread = Thread(target=stage.run, name="atas-deploy stage", daemon=True)
    thread.start()
    try:
        yield from stage.items()
    finally:
        stage.stop()
        _join(thread)


def _join(thread: Thread) -> None:
    """Wait for a thread whatever happens: what it works on is about to be closed."""
    interruption: BaseException | None = None
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:  # Ctrl-C
            interruption = error
    if interruption is not None:
        raise interruption


class _Stage(Generic[T]):
    def __init__(self, source: Iterable[T], depth: int) -> None:
        self._source = source
        self._queue: Queue[T | _End] = Queue(depth)
        self._stopped = Event()

    def run(self) -> None:
        """Feed the queue until the source ends, fails or is not wanted any more."""
        end = _End()
        try:
            for item in self._source:
                if not self._put(item):
                    break
        except BaseException as error:
            end = _End(error)
        try:
            if hasattr(self._source, "close"):
                self._source.close()
        except BaseException as error:
            end = _End(end.error or error)
        self._put(end)

    def items(self) -> Iterator[T]:
        """Yield what the source gives, then raise what ended it."""
        while not isinstance(item := self._queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    def stop(self) -> None:
        """Tell the source that nothing more is wanted."""
        self._stopped.set()
        with suppress(Empty):
            while True:
                self._queue.get_nowait()

    def _put(self, item: T | _End) -> bool:
        while not self._stopped.is_set():
            with suppress(Full):
                self._queue.put(item, timeout=_POLL)
                return True
        return False

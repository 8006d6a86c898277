"""Stages in threads: order, errors, and an end in every case."""

import gc
import threading
from collections.abc import Iterator

import pytest

from atas_deploy.runtime.pipeline import ahead


def stages() -> int:
    """Number of living stage threads."""
    return sum(thread.name == "atas-deploy stage" for thread in threading.enumerate())


def test_items_come_in_order() -> None:
    """Through two stages."""
    assert list(ahead(x * 2 for x in ahead(range(100), depth=3))) == list(range(0, 200, 2))


def test_the_source_stays_a_few_items_ahead() -> None:
    """As many as may wait, one in hand, and the one that was given."""
    taken = []
    source = ahead((taken.append(i) or i for i in range(1000)), depth=2)
    assert next(source) == 0
    ready = threading.Event()
    ready.wait(0.3)
    assert len(taken) <= 4
    source.close()


def test_errors_come_after_the_items_before_them() -> None:
    """With their own type and message."""

    def source() -> Iterator[int]:
        yield 1
        raise ValueError("worn out")

    items = ahead(ahead(source()))
    assert next(items) == 1
    with pytest.raises(ValueError, match="worn out"):
        next(items)
    assert stages() == 0


def test_an_error_of_closing_is_told() -> None:
    """A source that ends well and cannot be closed fails; what failed before comes first."""

    class Source:
        def __init__(self, *items: int) -> None:
            self._items = iter(items)

        def __iter__(self) -> Iterator[int]:
            return map(lambda item: 1 // item, self._items)

        def close(self) -> None:
            raise OSError("cannot be closed")

    items = ahead(Source(1))
    assert next(items) == 1
    with pytest.raises(OSError, match="cannot be closed"):
        next(items)
    with pytest.raises(ZeroDivisionError):
        list(ahead(Source(1, 0)))
    assert stages() == 0


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_an_early_end_closes_every_stage(taken: int) -> None:
    """The innermost source is closed and no thread stays behind."""
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.append(True)

    def passed_on(items: Iterator[int]) -> Iterator[int]:
        try:
            yield from items
        finally:
            items.close()

    items = ahead(passed_on(ahead(source())))
    for _ in range(taken):
        next(items)
    items.close()
    assert closed == [True] * (taken > 0)  # a generator that never ran needs no closing
    assert stages() == 0


def test_an_error_of_the_consumer_ends_the_stages() -> None:
    """As when a result cannot be written."""

    def consume() -> None:
        for item in ahead(range(10**9)):
            raise RuntimeError(item)

    with pytest.raises(RuntimeError):
        consume()
    gc.collect()  # the traceback held the generator
    assert stages() == 0

"""Rows of the training log."""

import pytest

from atas_deploy.training import log_rows
from atas_deploy.training.distributed import SINGLE
from atas_deploy.training.log_rows import LogRows


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(log_rows.time, "monotonic", lambda: now[0])
    return now


def test_means_are_over_the_batches_that_have_a_value(clock: list[float]) -> None:
    """What is measured at times only is not thinned out by the batches between."""
    rows = LogRows()
    rows.add({"loss": 1.0, "cosine": 0.5}, images=4)
    rows.add({"loss": 2.0}, images=2)
    clock[0] += 3
    assert rows.take(SINGLE) == {
        "seconds": 3,
        "loss": 1.5,
        "cosine": 0.5,
        "images_per_second": 2,
    }
    rows.add({"loss": 4.0}, images=0)
    assert rows.take(SINGLE) == {"seconds": 0, "loss": 4}


def test_what_is_no_training_does_not_slow_it(clock: list[float]) -> None:
    """Time aside counts as time that went by, but not against the speed of this row alone."""
    rows = LogRows()
    for images in (6, 12):
        clock[0] += 3
        with rows.aside():
            clock[0] += 5
        rows.add({}, images=images)
        row = rows.take(SINGLE)
        assert (row["seconds"], row["images_per_second"]) == (8, images / 3)

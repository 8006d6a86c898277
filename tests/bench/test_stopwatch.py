"""Times of stages."""

import time

import pytest

from atas_deploy.bench.stopwatch import STAGES, Stopwatch


def test_a_batch_shares_its_time() -> None:
    """Each frame gets the same part of it."""
    watch = Stopwatch()
    with watch(STAGES[3], frames=4):
        time.sleep(0.02)
    first, *others = watch.seconds["encoder"]
    assert others == [first] * 3
    assert first >= 0.02 / 4


def test_time_moves_from_one_stage_to_another() -> None:
    """Of the latest frame only, and never below nothing."""
    watch = Stopwatch()
    watch.seconds["masks"] = [2.0, 3.0]
    watch.shift("masks", -1.25)
    assert watch.seconds["masks"] == [2.0, 1.75]
    watch.shift("masks", 0.5)
    assert watch.last("masks") == 2.25
    watch.shift("masks", -5.0)
    assert watch.seconds["masks"] == [2.0, 0.0]


def test_a_stage_that_fails_has_no_time() -> None:
    """Nothing is noted."""
    watch = Stopwatch()
    with pytest.raises(ValueError, match="broken"), watch("masks"):
        raise ValueError("broken")
    assert watch.seconds == {}

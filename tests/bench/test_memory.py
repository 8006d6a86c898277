"""Memory counters."""

import sys

import numpy as np
import pytest

from atas_deploy.bench.memory import available, device_memory, forget_peak, peak

_SIZE = 64 * 2**20

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="these counters are Linux's"
)


def test_the_peak_remembers_what_was_let_go() -> None:
    """64 MiB that live for a moment are in it until it is forgotten."""
    before = forget_peak()
    block = np.ones(_SIZE, np.uint8)
    del block
    highest = peak()
    assert before is not None
    assert highest is not None
    assert _SIZE * 0.9 < highest - before < _SIZE * 2
    forget_peak()
    lower = peak()
    assert lower is not None
    assert lower < highest - _SIZE // 2


def test_free_memory_is_known() -> None:
    """More than this test takes, and less than any machine has."""
    free = available()
    assert free is not None
    assert _SIZE < free < 2**50


def test_the_cpu_has_no_device_memory() -> None:
    """What is not there is not 0 either."""
    assert device_memory("cpu") is None

"""Batches under way at the same time, on a model of CUDA."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from atas_deploy import Segmenter
from atas_deploy.runtime.device.batch import BatchShape, Plans
from atas_deploy.runtime.device.slot import Slot
from atas_deploy.runtime.device.tools import Tools

Make = Callable[..., Segmenter]
SHAPE = BatchShape(1, (20, 30), (32, 48), (2, 3), 256)


@pytest.fixture
def segmenter(make: Make) -> Segmenter:
    """On the GPU."""
    return make()


def make_slot(tools: Tools) -> Slot:
    """Memory for a picture."""
    with tools.enqueuing("test"):
        return Slot(Plans(tools, SHAPE, threshold=None, tint=None))


def start(slot: Slot, tools: Tools, segmenter: Segmenter, *, level: int) -> None:
    """Enqueue a grey picture."""
    slot.fill([np.full((20, 30, 3), level, np.uint8)])
    with tools.enqueuing("test"):
        slot.start(segmenter._words)


def test_a_batch_is_enqueued_before_the_one_before_is_waited_for(
    segmenter: Segmenter, gpu: Any
) -> None:
    """Nothing waits until a result is asked for; then only what is in front of it is done."""
    tools = segmenter._gpu
    assert tools is not None
    first, second = make_slot(tools), make_slot(tools)
    start(first, tools, segmenter, level=10)
    work = len(tools.driver.stream.work)
    start(second, tools, segmenter, level=200)
    assert len(tools.driver.stream.work) > work
    assert "synchronize" not in gpu.log
    first.finish()
    assert tools.driver.stream.work
    assert first.take(0).labels.shape == (20, 30)
    second.finish()
    tools.wait()


def test_memory_may_have_been_in_use(segmenter: Segmenter, gpu: Any, cupy_model: Any) -> None:
    """CuPy's pool gives out what work on the stream has still to write; pixels wait for that."""
    tools = segmenter._gpu
    assert tools is not None
    with tools.enqueuing("test"):
        before = tools.driver.empty((1, 20, 30, 3), np.uint8)
        cupy_model.Launch(gpu, lambda place: place.fill(77), [before])
        address = before.data.ptr
        del before
    slot = make_slot(tools)
    start(slot, tools, segmenter, level=200)
    assert slot._frames.data.ptr == address
    slot.finish()
    assert set(gpu.use(address, 20 * 30 * 3).bytes) == {200}
    tools.wait()


def test_pixels_go_up_while_the_gpu_computes(segmenter: Segmenter, gpu: Any) -> None:
    """On a stream of their own: those of the second are there before the first is done."""
    tools = segmenter._gpu
    assert tools is not None
    slots = make_slot(tools), make_slot(tools)
    tools.wait()
    for slot, level in zip(slots, (10, 200), strict=True):
        start(slot, tools, segmenter, level=level)
    assert bool(tools.up.work) != gpu.hasty  # a copy that may be done early is
    while tools.up.work:
        tools.up.step()
    assert tools.driver.stream.work
    address = slots[1]._frames.data.ptr
    assert set(gpu.use(address, 20 * 30 * 3).bytes) == {200}
    tools.wait()

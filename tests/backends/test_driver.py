"""The GPU through CuPy, on a model of CUDA: devices, copies, captures, and what may be missing."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atas_deploy.backends.driver import Driver
from atas_deploy.backends.gpu import gpu_index, load_cupy
from atas_deploy.core.errors import BackendUnavailableError, ConfigError


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_gpus_have_numbers(name: str, index: int) -> None:
    """As CUDA counts them."""
    assert gpu_index(name) == index


@pytest.mark.parametrize("name", ["cpu", "cuda:", "cuda:x", "cuda:-1", "gpu:0", "cuda:²"])
def test_other_names_are_refused(name: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match="expected cuda or cuda:N"):
        gpu_index(name)


def test_cupy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the packages; it is an ImportError, too."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"pip install .cupy-cuda13x\[ctk\]") as caught:
        load_cupy("cuda")
    assert isinstance(caught.value, BackendUnavailableError)


def test_the_driver_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CuPy says stands in our sentence."""

    def count() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    runtime = SimpleNamespace(getDeviceCount=count)
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(BackendUnavailableError, match=r"InsufficientDriver.*nvidia-smi"):
        load_cupy("cuda")


def test_there_is_no_such_gpu(cuda: Any) -> None:
    """The message names those that there are."""
    with pytest.raises(BackendUnavailableError, match=r'no device "cuda:2".*cuda:0, cuda:1'):
        Driver("cuda:2")


def test_the_callers_gpu_and_stream_stay_current(cuda: Any) -> None:
    """A driver's are so only inside `active`, and only in this thread."""
    driver = Driver("cuda:1")
    assert (cuda.devices, cuda.current) == ([0], [])
    with driver.active():
        assert (cuda.devices[-1], cuda.current[-1]) == (1, driver.stream)
    assert (cuda.devices, cuda.current) == ([0], [])


def test_copies_come_in_order_and_when_waited_for(cuda: Any) -> None:
    """From pinned memory to the GPU and back to other pinned memory."""
    driver = Driver("cuda")
    with driver.active():
        source, target = driver.allocate_pinned(6), driver.allocate_pinned(6)
        device = driver.allocate(6)
        source.host[:] = np.arange(6)
        target.host[:] = 9
        driver.copy(device.ptr, source.address, 6)
        driver.copy(target.address, device.ptr + 1, 5)
        target.copied.record(driver.stream)
        assert set(target.host) == {9}
        target.copied.synchronize()
    assert target.host.tolist() == [1, 2, 3, 4, 5, 9]


def test_pinned_memory_has_the_size_that_was_asked_for(cuda: Any) -> None:
    """CuPy gives more, rounded up."""
    driver = Driver("cuda")
    with driver.active():
        assert driver.allocate_pinned(1000).host.shape == (1000,)


def test_a_capture_does_nothing_yet(cuda: Any) -> None:
    """The work is done when the graph is launched, as often as it is."""
    driver, calls = Driver("cuda"), []

    class Work:
        def check(self) -> None:
            """Nothing can have changed."""

        def __call__(self) -> None:
            calls.append(1)

    with driver.active():
        graph = driver.capture(lambda: driver.stream.enqueue(Work()))
        driver.stream.synchronize()
        assert not calls
        driver.launch(graph)
        driver.launch(graph)
        driver.stream.synchronize()
    assert len(calls) == 2


def test_a_failed_capture_leaves_the_stream_usable(cuda: Any) -> None:
    """The error comes through, and the stream captures no more."""
    driver = Driver("cuda")

    def fail() -> None:
        raise KeyboardInterrupt

    with driver.active():
        with pytest.raises(KeyboardInterrupt):
            driver.capture(fail)
        assert driver.stream.captured is None
        driver.stream.synchronize()

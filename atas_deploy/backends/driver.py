"""The GPU, through CuPy: every call of CUDA that the backends make is in this module.

Nothing here has been run on a GPU by the project; the tests run it on a model of CUDA's streams.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.gpu import gpu_index, load_cupy


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """Page-locked memory of the host, which the GPU copies from while the host goes on.

    Attributes:
        host: its bytes, (n,) uint8.
        address: where it begins.
        copied: the event behind the last copy from it; wait for it before writing.
    """

    host: npt.NDArray[np.uint8]
    address: int
    copied: Any


class Driver:
    """One GPU, in its primary context, with a stream of its own.

    The stream does not wait for CUDA's default one, and work on it is done in the order in which it
    is enqueued. All methods but `active` are called inside `with driver.active()`.

    Args:
        device: "cuda" or "cuda:N".

    Attributes:
        cupy: the module.
        index: N.
        stream: the `cupy.cuda.Stream`.

    Raises:
        BackendUnavailableError: CuPy or the GPU is missing.
        ConfigError: the device is no GPU.
    """

    def __init__(self, device: str) -> None:
        self.cupy: Any = load_cupy(device)
        self.index = gpu_index(device)
        with self.cupy.cuda.Device(self.index):
            self.stream: Any = self.new_stream()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the GPU and the stream those of this thread, and put back what was."""
        with self.cupy.cuda.Device(self.index), self.stream:
            yield

    def new_stream(self) -> Any:
        """One more stream, for copies that go on beside the work on `stream`."""
        return self.cupy.cuda.Stream(non_blocking=True)

    def allocate(self, size: int) -> Any:
        """Memory of the GPU in bytes, freed with the `cupy.cuda.MemoryPointer` that is returned."""
        return self.cupy.cuda.alloc(size)

    def allocate_pinned(self, size: int) -> Pinned:
        """Page-locked memory of the host in bytes, freed with what is returned."""
        memory = self.cupy.cuda.alloc_pinned_memory(size)
        return Pinned(np.frombuffer(memory, np.uint8, size), int(memory.ptr), self.event())

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> Any:
        """A `cupy.ndarray` whose memory is used again on the stream when it is let go."""
        return self.cupy.empty(tuple(shape), dtype)

    def event(self) -> Any:
        """A `cupy.cuda.Event` that lets the host sleep while it waits."""
        return self.cupy.cuda.Event(block=True, disable_timing=True)

    def copy(self, target: int, source: int, size: int, *, stream: Any = None) -> None:
        """Enqueue a copy of bytes, of which one end or both are on the GPU.

        Memory of the host must be pinned, and left alone until the copy is done.

        Args:
            target: address.
            source: address.
            size: number of bytes.
            stream: where to enqueue it; None = the driver's own.
        """
        runtime, stream = self.cupy.cuda.runtime, stream or self.stream
        runtime.memcpyAsync(target, source, size, runtime.memcpyDefault, stream.ptr)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """Record what a function enqueues, without doing it, as a `cupy.cuda.Graph`.

        The graph holds addresses: what they name must stay as long as it does. The function must
        allocate nothing and wait for nothing.
        """
        mode = self.cupy.cuda.runtime.streamCaptureModeThreadLocal
        self.stream.begin_capture(mode)  # other threads may go on using the GPU
        try:
            enqueue()
        except BaseException:
            with suppress(Exception):  # the stream must not stay as it is
                self.stream.end_capture()
            raise
        return self.stream.end_capture()

    def launch(self, graph: Any) -> None:
        """Enqueue all that a graph holds."""
        graph.launch(self.stream)

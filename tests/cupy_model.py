"""CuPy on the model of CUDA: memory, arrays, kernels, and the module as far as it is used."""

import ctypes
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_model import Block, Cuda, Device, Event, Stream, Use


class MemoryPointer:
    """Memory of a GPU; it goes back to the pool of its stream with this object."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        cuda.idle("allocating")
        if cuda.room is not None and size > cuda.room:
            raise MemoryError(f"Out of memory allocating {size:,} bytes")
        stream = cuda.current[-1]
        pool = cuda.free.setdefault((stream.ptr, size), [])
        self.block = pool.pop() if pool else cuda.new_block(size, stream.device_id)
        self.block.alive, self.ptr = True, self.block.address
        self.block.owners += 1
        cuda.log.append(f"allocate {size}")
        self.cuda = cuda
        weakref.finalize(self, give_back, self.block, pool)


def give_back(block: Block, pool: list[Block]) -> None:
    """Free memory."""
    block.alive = False
    pool.append(block)


class PinnedMemoryPointer(bytearray):
    """Pinned memory of the host: it has the buffer protocol, and lives as long as its views."""

    ptr: int


def alloc_pinned_memory(cuda: Cuda, size: int) -> PinnedMemoryPointer:
    """Pin some memory; it is a little more than was asked for, as CuPy's."""
    cuda.idle("allocating")
    cuda.log.append(f"pin {size}")
    block = cuda.new_block(size + 100, None)
    memory = PinnedMemoryPointer(block.bytes.tobytes())
    memory.ptr = block.address
    kind = ctypes.c_uint8 * len(memory)
    block.bytes = np.ctypeslib.as_array(
        kind.from_address(ctypes.addressof(kind.from_buffer(memory)))
    )
    weakref.finalize(memory, unpin, block)
    return memory


def unpin(block: Block) -> None:
    """Free pinned memory."""
    block.alive = False
    block.bytes = np.empty(len(block.bytes), np.uint8)
    block.spoil()


class Array:
    """A `cupy.ndarray`, as far as the backends and the frames on a GPU need it."""

    def __init__(self, data: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self.data, self.shape, self.dtype = data, shape, np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> "Array":
        """One part along the first axis; it keeps the memory of all."""
        part = Array(None, self.shape[1:], self.dtype)
        part.data = SimpleNamespace(ptr=self.data.ptr + index * part.nbytes, whole=self.data)
        return part

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def get(self) -> np.ndarray:
        """What lies there now: the default stream waits for no other."""
        current = self.data.cuda.current
        self.data.cuda.check(not current, "the copy waits for all that was enqueued since")
        return self.data.block.bytes.view(self.dtype).reshape(self.shape).copy()


class Launch:
    """A kernel: a function that gets arrays as they are when its turn comes, and writes some."""

    def __init__(self, cuda: Cuda, work: Callable[..., None], arrays: Sequence[Array]) -> None:
        self.cuda, self.work = cuda, work
        self.kinds = [(array.dtype, array.shape) for array in arrays]
        self.uses = [cuda.use(array.data.ptr, array.nbytes) for array in arrays]
        stream = cuda.current[-1]
        for use in self.uses:
            cuda.check(use.block.device == stream.device_id, "a kernel reads another place")
        stream.enqueue(self)

    def check(self) -> None:
        """Object to a graph whose memory was freed."""
        for use in self.uses:
            use.check(self.cuda)

    def __call__(self) -> None:
        """Work."""
        places = zip(self.uses, self.kinds, strict=True)
        self.work(*(use.bytes.view(dtype).reshape(shape) for use, (dtype, shape) in places))


class Copy:
    """A copy of bytes, as they will be when it is done; graphs have none."""

    def __init__(self, cuda: Cuda, target: Use, source: Use, stream: Stream) -> None:
        self.cuda, self.target, self.source, self.stream = cuda, target, source, stream

    def __call__(self) -> None:
        """Copy. Memory belongs to the GPU's first stream: another one must not come too late."""
        if not self.stream.first:
            for use in (self.target, self.source):
                use.check(self.cuda, "memory was freed before it was copied")
        self.target.bytes[:] = self.source.bytes


def fake_cupy(cuda: Cuda) -> Any:
    """The module, as far as the backend uses it."""

    def memcpy_async(target: int, source: int, size: int, kind: str, stream: int) -> None:
        uses = [cuda.use(address, size) for address in (target, source)]
        for use in uses:
            here = use.block.device in (None, cuda.streams[stream].device_id)
            cuda.check(here, "a copy from or to another GPU")
        cuda.streams[stream].enqueue(Copy(cuda, *uses, cuda.streams[stream]))

    def empty(shape: Any, dtype: Any) -> Array:
        shape = shape if isinstance(shape, tuple) else (shape,)
        return Array(MemoryPointer(cuda, prod(shape) * np.dtype(dtype).itemsize), shape, dtype)

    def asarray(values: np.ndarray) -> Array:
        array = empty(values.shape, values.dtype)
        Launch(cuda, lambda target: np.copyto(target, values), [array])
        return array

    runtime = SimpleNamespace(
        getDeviceCount=lambda: cuda.gpus,
        memcpyAsync=memcpy_async,
        memcpyDefault="default",
        streamCaptureModeThreadLocal="thread-local",
    )
    return SimpleNamespace(
        model=cuda,
        empty=empty,
        asarray=asarray,
        cuda=SimpleNamespace(
            Device=lambda index: Device(cuda, index),
            Event=lambda block, disable_timing: Event(cuda),
            Stream=lambda non_blocking: Stream(cuda, cuda.devices[-1]),
            alloc=lambda size: MemoryPointer(cuda, size),
            alloc_pinned_memory=lambda size: alloc_pinned_memory(cuda, size),
            runtime=runtime,
        ),
    )


@contextmanager
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """GPUs, with CuPy for them; at the end nothing may have been wrong."""
    cuda = Cuda()
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(cuda))
    yield cuda
    assert not cuda.faults

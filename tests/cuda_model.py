"""A model of CUDA, as CuPy shows it, that does work as late as it may and objects to every misuse.

- A stream does nothing until something waits for it; then it does its work in order. What reads
  memory without waiting sees NaN, or what was there before. Where `hasty` is on, the streams but
  the first of a GPU do at once what waits for no other: what they overwrite too early is lost.
- Memory of a GPU that is freed goes to the next who asks for as much on that stream, as in CuPy's
  pool: what was enqueued before is safe. Pinned memory that is freed becomes NaN.
- A graph keeps addresses. What it holds is checked when it is launched.
- Each thread has a current GPU; work on another one is a fault.

Whatever is wrong is an AssertionError at once, and again at the end of the test.
"""

from collections import deque
from collections.abc import Callable, Sequence
from threading import RLock, local
from types import SimpleNamespace

import numpy as np

GPUS = 2
NAN = np.frombuffer(np.float32("nan").tobytes(), np.uint8)


class Block:
    """Some bytes at an address that no other block has, on a GPU or pinned on the host."""

    def __init__(self, size: int, *, address: int, device: int | None) -> None:
        self.bytes = np.empty(size, np.uint8)
        self.address, self.device = address, device
        self.alive, self.owners = True, 1
        self.spoil()

    def spoil(self) -> None:
        """Fill it with NaN."""
        self.bytes[:] = np.resize(NAN, len(self.bytes))


class Cuda:
    """The state of all GPUs."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.free: dict[tuple[int, int], list[Block]] = {}  # of a stream, by size
        self.streams: dict[int, Stream] = {}
        self.faults: list[str] = []
        self.log: list[str] = []
        self.gpus = GPUS
        self.refuse_capture = False
        self.hasty = False
        self.room: int | None = None  # bytes of each allocation that there are
        self.working = RLock()  # held while work is done, of whichever stream
        self._thread = local()

    def check(self, right: bool, fault: str) -> None:
        """Object."""
        if not right:
            self.faults.append(fault)
            raise AssertionError(fault)

    @property
    def devices(self) -> list[int]:
        """The current GPU of this thread, last."""
        if not hasattr(self._thread, "devices"):
            self._thread.devices, self._thread.streams = [0], []
        return self._thread.devices

    @property
    def current(self) -> list["Stream"]:
        """The current stream of this thread, last."""
        self.devices  # noqa: B018
        return self._thread.streams

    def on(self, device: int) -> None:
        """Object if another GPU is current."""
        self.check(self.devices[-1] == device, f"GPU {self.devices[-1]} is current, not {device}")

    def idle(self, action: str) -> None:
        """Object to what must not be done while a stream captures."""
        capturing = any(stream.captured is not None for stream in self.streams.values())
        self.check(not capturing, f"{action} while capturing")

    def new_block(self, size: int, device: int | None) -> Block:
        """A block far from the others."""
        address = 2**40 + 2**32 * len(self.blocks)
        self.blocks.append(Block(size, address=address, device=device))
        return self.blocks[-1]

    def find(self, address: int, size: int) -> tuple[Block, int]:
        """The block that holds some bytes, and where in it."""
        for block in self.blocks:
            offset = address - block.address
            if 0 <= offset < max(1, len(block.bytes)):
                self.check(block.alive, "memory is used after it was freed")
                self.check(offset + size <= len(block.bytes), "memory is used beyond its end")
                return block, offset
        self.check(False, f"no memory at {address:#x}")
        raise AssertionError

    def use(self, address: int, size: int) -> "Use":
        """The bytes at an address, for work that is enqueued now."""
        block, offset = self.find(address, size)
        return Use(block, slice(offset, offset + size))


class Use:
    """Bytes that some work will read or write."""

    def __init__(self, block: Block, place: slice) -> None:
        self.block, self.owner, self.place = block, block.owners, place

    @property
    def bytes(self) -> np.ndarray:
        """What lies there now."""
        return self.block.bytes[self.place]

    def check(self, cuda: Cuda, fault: str = "a graph uses memory that was freed") -> None:
        """Object if the memory was freed since the work was recorded."""
        same = self.block.alive and self.block.owners == self.owner
        cuda.check(same, fault)


class Stream:
    """Work that waits. An item is a function and what must not change until it is done."""

    def __init__(self, cuda: Cuda, device: int) -> None:
        self.cuda, self.device_id = cuda, device
        self.ptr = 1000 + len(cuda.streams)
        self.first = all(stream.device_id != device for stream in cuda.streams.values())
        self.work: deque[Callable[[], None]] = deque()
        self.captured: list[Callable[[], None]] | None = None
        cuda.streams[self.ptr] = self

    def __enter__(self) -> "Stream":
        self.cuda.on(self.device_id)
        self.cuda.current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.cuda.current.pop()

    def enqueue(self, work: Callable[[], None]) -> None:
        """Put work behind all that is there, or into the graph."""
        self.cuda.on(self.device_id)
        (self.work if self.captured is None else self.captured).append(work)
        with self.cuda.working:
            while self.cuda.hasty and not self.first and self.work and not self.blocked:
                self.step()

    @property
    def blocked(self) -> bool:
        """Whether the next work waits for another stream."""
        return isinstance(self.work[0], Wait) and not self.work[0].mark.done

    def wait_event(self, event: "Event") -> None:
        """Do what is enqueued from now on behind the work in front of an event."""
        if event.stream is not None:
            self.enqueue(Wait(event.stream, event.mark))

    def synchronize(self) -> None:
        """Do all work."""
        self.cuda.idle("waiting")
        self.cuda.log.append("synchronize")
        while self.work:
            self.step()

    def step(self) -> None:
        """Do the next work, one thread at a time: streams wait for each other both ways."""
        with self.cuda.working:
            if self.work:
                self.work.popleft()()

    def begin_capture(self, mode: str) -> None:
        """Record from now on."""
        self.cuda.idle("capturing")
        self.cuda.check(mode == "thread-local", "other threads are hindered")
        self.captured = []

    def end_capture(self) -> "Graph":
        """What was recorded."""
        captured, self.captured = self.captured, None
        if self.cuda.refuse_capture:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated: the capture was invalidated")
        self.cuda.log.append("capture")
        return Graph(self.cuda, captured or [])


class Wait:
    """A stream waits for a place in another one."""

    def __init__(self, stream: Stream, mark: SimpleNamespace) -> None:
        self.stream, self.mark = stream, mark

    def __call__(self) -> None:
        """Do the other stream's work up to there."""
        while not self.mark.done:
            self.stream.step()


class Event:
    """A place in a stream."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.stream, self.done = cuda, None, True
        self.device = cuda.devices[-1]

    def record(self, stream: Stream) -> None:
        """Stand behind all work of the stream."""
        self.cuda.check(stream.device_id == self.device, "an event of another GPU")
        mark = SimpleNamespace(done=False)
        self.stream, self.mark = stream, mark
        stream.enqueue(lambda: setattr(mark, "done", True))

    def synchronize(self) -> None:
        """Do the work in front of it."""
        self.cuda.idle("waiting")
        while self.stream is not None and not self.mark.done:
            self.stream.step()


class Graph:
    """Recorded work, done again and again with the memory and the contexts of the recording."""

    def __init__(self, cuda: Cuda, work: Sequence[Callable[[], None]]) -> None:
        self.cuda, self.work = cuda, work

    def launch(self, stream: Stream) -> None:
        """Enqueue all of it."""
        self.cuda.log.append("launch")
        for work in self.work:
            work.check()
            stream.enqueue(work)


class Device:
    """Makes a GPU current."""

    def __init__(self, cuda: Cuda, index: int) -> None:
        self.cuda, self.index = cuda, index

    def __enter__(self) -> "Device":
        self.cuda.devices.append(self.index)
        return self

    def __exit__(self, *_: object) -> None:
        self.cuda.devices.pop()

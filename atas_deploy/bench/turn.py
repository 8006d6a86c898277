"""One turn of a contender: the whole way of a video, and each stage by itself before and after.

H W pixels
"""

import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from atas_deploy.bench.memory import device_memory, forget_peak, peak
from atas_deploy.bench.stopwatch import Stopwatch
from atas_deploy.core.geometry import Size
from atas_deploy.core.masks import Labels
from atas_deploy.core.memory import return_freed
from atas_deploy.media.video import VideoReader, VideoWriter

Image = npt.NDArray[np.uint8]
T = TypeVar("T")
_STAGE_FRAMES = 16  # that go through the stages by themselves, before and again after
_SECONDS, _LEAST = 5.0, 3  # after which fewer frames, or batches of them, will do
_HELD = 8  # frames kept for it, one behind the other
_LEAD = 16  # frames that a codec may hold back before it takes its full time
_RATE = Fraction(30)
_COMPARED = 4  # frames whose labels are compared, spread over the video


class Runner(Protocol):
    """A model with words that can take a video through.

    Attributes:
        device: "cpu", "cuda" or "cuda:N".
        batch_size: frames that it encodes at once.
        text_seconds: that the words took, 0 or nearly so if they were known.
    """

    device: str
    batch_size: int
    text_seconds: float

    def run(self, video: Path, out: Path, *, frames: int, tick: Callable[[], None]) -> None:
        """Make an overlay video in a folder, calling `tick` behind each frame."""
        ...

    def encode(self, images: Sequence[Image], watch: Stopwatch) -> Sequence[Any]:
        """What `label` takes of each frame of a batch (H, W, 3), waiting for every stage."""
        ...

    def label(self, image: Image, encoded: Any, watch: Stopwatch) -> tuple[Labels, Image]:
        """Labels (H, W) and overlay (H, W, 3) of a frame, waiting for every stage."""
        ...

    def input_size(self, size: Size) -> Size:
        """(height, width) of the encoder's input for frames of a size."""
        ...


def take_turn(runner: Runner, video: Path, *, frames: int, labels: Path | None) -> dict[str, Any]:
    """Warm up and measure.

    The stages are timed before and after the whole way: the clock of a processor drifts.

    Args:
        runner: who.
        video: the file.
        frames: of it.
        labels: .npz file for the labels of some frames; None = not wanted.

    Returns:
        JSON-ready: "size", "input", "frames", "text_s", "stages" (ms of each frame), "steps" (ms a
        frame of the whole way, over batches), "run_s", and memory in bytes.
    """
    with TemporaryDirectory(prefix="atas-deploy-bench-") as name:
        folder = Path(name)
        runner.run(video, folder / "warm", frames=2 * runner.batch_size + 1, tick=lambda: None)
        watch = Stopwatch()
        _time_stages(runner, video, folder / "before.mp4", watch, frames=frames)
        found = _run(runner, video, folder / "out", frames=frames)
        compared = _time_stages(runner, video, folder / "after.mp4", watch, frames=frames)
    if labels is not None:
        _keep_labels(labels, runner, compared)
    size = compared[0].shape[0], compared[0].shape[1]
    return found | {
        "size": size,
        "input": runner.input_size(size),
        "text_s": runner.text_seconds,
        "stages": {stage: [1e3 * s for s in taken] for stage, taken in watch.seconds.items()},
    }


def _run(runner: Runner, video: Path, out: Path, *, frames: int) -> dict[str, Any]:
    """The whole way, with the peak of memory on it."""
    stamps: list[float] = []
    return_freed()
    resident = forget_peak()
    start = time.perf_counter()
    runner.run(video, out, frames=frames, tick=lambda: stamps.append(time.perf_counter()))
    seconds = time.perf_counter() - start
    ends = stamps[runner.batch_size - 1 :: runner.batch_size]
    return {
        "frames": len(stamps),
        "run_s": seconds,
        "steps": [1e3 * float(step) / runner.batch_size for step in np.diff(ends)],
        "resident_bytes": resident,
        "peak_bytes": peak(),
        "device_bytes": device_memory(runner.device),
    }


def _time_stages(
    runner: Runner, video: Path, overlay: Path, watch: Stopwatch, *, frames: int
) -> list[Image]:
    """Time every stage by itself; return some frames that are spread over the video."""
    held, spread = _decode(video, watch, frames=frames)
    _encode(overlay, _stages(runner, held, watch), watch)
    return spread


def _decode(video: Path, watch: Stopwatch, *, frames: int) -> tuple[list[Image], list[Image]]:
    """Time the decoder by itself; keep the first frames, and some that are spread over all."""
    held: list[Image] = []
    spread: list[Image] = []
    with VideoReader(video, max_frames=frames) as reader:
        apart = max(1, min(frames, reader.frame_count or frames) // _COMPARED)
        decoded = iter(reader)
        while True:
            with watch("decode"):
                frame = next(decoded, None)
                image = None if frame is None else frame.image  # perhaps converted only now
            if frame is None or image is None:
                del watch.seconds["decode"][-1]
                return held, spread
            if len(held) < _HELD:
                held.append(image)
            if frame.index % apart == 0 and len(spread) < _COMPARED:
                spread.append(image)


def _stages(runner: Runner, held: Sequence[Image], watch: Stopwatch) -> list[Image]:
    """Take frames through the stages between decoder and encoder; return the overlays."""
    batches = -(-_STAGE_FRAMES // runner.batch_size)
    images = _back_and_forth(held, 0, batches * runner.batch_size)
    first = runner.encode(images[: runner.batch_size], Stopwatch())  # by itself, as what follows
    runner.label(images[0], first[0], Stopwatch())
    encoded: list[Any] = []
    for start in _for_a_while(range(0, len(images), runner.batch_size)):
        encoded += runner.encode(images[start : start + runner.batch_size], watch)
    pairs = list(zip(images, encoded, strict=False))[:_STAGE_FRAMES]
    return [runner.label(*pair, watch)[1] for pair in _for_a_while(pairs)][: len(held)]


def _for_a_while(items: Sequence[T]) -> Iterator[T]:
    """Items until the time is up: the first few at least, and all where they take no time."""
    start = time.perf_counter()
    for number, item in enumerate(items):
        if number >= _LEAST and time.perf_counter() - start > _SECONDS:
            return
        yield item


def _back_and_forth(held: Sequence[Image], first: int, count: int) -> list[Image]:
    """So many frames from the first on, turning at both ends: neighbours stay neighbours."""
    cycle = [*held, *held[-2:0:-1]]
    return [cycle[i % len(cycle)] for i in range(first, first + count)]


def _encode(path: Path, overlays: Sequence[Image], watch: Stopwatch) -> None:
    """Time the video encoder by itself."""
    height, width = overlays[0].shape[:2]
    with VideoWriter(path, size=(height, width), rate=_RATE) as writer:
        for image in _back_and_forth(overlays, 0, _LEAD):
            writer.write(image)
        for image in _back_and_forth(overlays, _LEAD, _STAGE_FRAMES):
            with watch("encode"):
                writer.write(image)


def _keep_labels(path: Path, runner: Runner, images: Sequence[Image]) -> None:
    """Write the labels of some frames."""
    watch = Stopwatch()
    maps = [runner.label(image, runner.encode([image], watch)[0], watch)[0] for image in images]
    np.savez(path, labels=np.stack(maps))

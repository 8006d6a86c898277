"""Synthetic clips, written by PyAV itself."""

from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

MakeClip = Callable[..., Path]


def draw(index: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Draw a smooth colour pattern that moves with the index: (H, W, 3)."""
    coarse = np.random.default_rng(5).integers(30, 226, (4, 5, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.roll(smooth, 3 * index, axis=1), np.uint8)


def tone(start: int, samples: int, rate: int) -> av.AudioFrame:
    """Make a piece of a stereo tone of 440 Hz."""
    time = np.arange(start, start + samples) / rate
    wave = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    return frame


@pytest.fixture
def picture() -> Callable[[int, tuple[int, int]], npt.NDArray[np.uint8]]:
    """Give the function that draws the frames of clips."""
    return draw


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """Give a function that writes a clip and returns its path."""

    def make(
        name: str = "clip.mp4",
        *,
        stamps: Sequence[int] = tuple(range(0, 12_000, 1_000)),
        time_base: Fraction = Fraction(1, 25_000),
        size: tuple[int, int] = (96, 160),
        codec: str = "libx264",
        audio: str | None = None,
        audio_seconds: float | None = None,
        rotation: int = 0,
        pixel_aspect: Fraction = Fraction(1),
        pixel_format: str = "yuv420p",
        rate: int = 25,
        **options: Any,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            video: Any = container.add_stream(codec, rate=rate, options=options)
            video.height, video.width = size
            video.pix_fmt = pixel_format if codec != "libx264rgb" else "rgb24"
            video.codec_context.time_base = time_base
            video.codec_context.sample_aspect_ratio = pixel_aspect
            if rotation:
                video.set_display_rotation(rotation)
            sound: Any = container.add_stream(audio, rate=48_000) if audio else None
            seconds = audio_seconds or stamps[-1] * float(time_base) + 0.04
            blocks = deque(range(0, int(seconds * 48_000), 1_024) if sound else ())
            for index, pts in enumerate(stamps):
                frame = av.VideoFrame.from_ndarray(draw(index, size), format="rgb24")
                frame.pts, frame.time_base = pts, time_base
                container.mux(video.encode(frame))
                while blocks and blocks[0] < 48_000 * pts * time_base:
                    container.mux(sound.encode(tone(blocks.popleft(), 1_024, 48_000)))
            container.mux(video.encode(None))
            while blocks:
                container.mux(sound.encode(tone(blocks.popleft(), 1_024, 48_000)))
            if sound:
                container.mux(sound.encode(None))
        return path

    return make

"""Tests that damaged videos give frames or one sentence, nothing else."""

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.core.errors import InputError
from atas_deploy.media.video import VideoReader, VideoWriter

MakeClip = Callable[..., Path]

KINDS = [
    ("a.mp4", "libx264", "aac"),
    ("b.mp4", "libx265", None),
    ("a.mov", "png", None),
    ("a.mkv", "libx264", "libopus"),
    ("a.avi", "mpeg4", "libmp3lame"),
    ("a.ts", "mpeg2video", "aac"),
    ("a.webm", "libvpx-vp9", "libopus"),
    ("b.webm", "libsvtav1", None),
]
FRAMES = 10
MANY = 200  # frames; no damage makes more of ten


@pytest.fixture
def clip(request: pytest.FixtureRequest, make_clip: MakeClip) -> Path:
    """Make a small clip of one kind."""
    name, codec, audio = request.param
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {codec} to make the clip with")
    options = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    if codec == "libsvtav1":
        options["preset"] = "12"
    pixel_format = "rgb24" if codec == "png" else "yuv420p"
    return make_clip(
        name,
        stamps=range(FRAMES),
        time_base=Fraction(1, 25),
        size=(48, 64),
        codec=codec,
        audio=audio,
        pixel_format=pixel_format,
        **options,
    )


def check(path: Path, *, start: float | None, end: float | None, target: Path) -> None:
    """Copy a video: frames of one size, in order, or one sentence."""
    with suppress(InputError), VideoReader(path, start=start, end=end) as reader:
        assert max(reader.size) <= 20_000
        with VideoWriter(target, source=reader) as out:
            for count, frame in enumerate(islice(reader, MANY)):
                assert frame.index == count
                assert frame.image.shape == (*reader.size, 3)
                assert np.isfinite(frame.time)
                out.write(frame.image, frame)


@pytest.mark.parametrize("clip", KINDS, indirect=True, ids=[f"{k[0]}-{k[1]}" for k in KINDS])
def test_damaged_files(clip: Path) -> None:
    """Whatever bytes are flipped or lost, frames of one size or an InputError come out."""
    whole = clip.read_bytes()
    place = st.integers(0, len(whole) - 1)
    # Headers are a small part of a file and the most dangerous one.
    header = st.integers(0, min(1_000, len(whole) - 1))

    @settings(deadline=None, max_examples=150, database=None)
    @given(
        length=st.just(len(whole)) | st.integers(1, len(whole)),
        flips=st.lists(st.tuples(place | header, st.integers(0, 7)), max_size=12),
        start=st.none() | st.floats(0, 3),
        end=st.none() | st.floats(3.01, 5),
    )
    def damage(
        length: int, flips: list[tuple[int, int]], start: float | None, end: float | None
    ) -> None:
        content = bytearray(whole)
        for position, bit in flips:
            content[position] ^= 1 << bit
        clip.write_bytes(content[:length])
        check(clip, start=start, end=end, target=clip.with_name("out.mp4"))

    damage()

"""Frames as they were decoded: they are the image, converted by somebody else."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from atas_deploy.backends.kernels.twins import nv12_to_rgb
from atas_deploy.media.video import Frame, VideoReader
from atas_deploy.media.video.planes import planes_of

MakeClip = Callable[..., Path]


def frames(path: Path) -> list[Frame]:
    """All of them, with planes where they have some."""
    with VideoReader(path, planes=True) as reader:
        return list(reader)


@pytest.mark.parametrize(
    ("facts", "matrix", "full"),
    [
        ({}, "bt601", False),
        ({"size": (720, 64)}, "bt709", False),
        ({"pixel_format": "yuvj420p"}, "bt601", True),
        ({"codec": "libx265", "x265-params": "log-level=error"}, "bt601", False),
        ({"size": (34, 50)}, "bt601", False),  # rows that decoders pad
    ],
)
def test_planes_become_the_image(make_clip: MakeClip, facts: Any, matrix: str, full: bool) -> None:
    """But for a level, which the two conversions round differently."""
    for frame in frames(make_clip(stamps=range(0, 3_000, 1_000), **facts)):
        planes = frame.planes
        assert planes is not None
        assert (planes.matrix, planes.full_range) == (matrix, full)
        assert planes.shape == (*frame.image.shape[:2], matrix, full)
        found = nv12_to_rgb(planes.luma, planes.chroma, matrix=matrix, full_range=full)
        assert np.abs(found.astype(int) - frame.image).max() <= 1


@pytest.mark.parametrize(
    "facts",
    [
        {"rotation": 90},
        {"pixel_format": "yuv444p"},
        {"pixel_format": "yuv420p10le"},
        {"codec": "libx264rgb"},
        {"codec": "mpeg2video", "name": "a.mpg", "time_base": Fraction(1, 25)},
        {"codec": "ffv1", "name": "a.mkv", "size": (33, 51)},
    ],
)
def test_other_frames_have_none(make_clip: MakeClip, facts: Any) -> None:
    """Turned ones, other formats, odd sides; their images are as ever."""
    path = make_clip(stamps=range(0, 3_000, 1_000), **facts)
    with VideoReader(path) as reader:
        wanted = [frame.image for frame in reader]
    found = frames(path)
    assert [frame.planes for frame in found] == [None] * 3
    np.testing.assert_array_equal([frame.image for frame in found], wanted)


def test_images_are_those_without_planes(make_clip: MakeClip) -> None:
    """They are converted later, once, and the frame's memory is not used again meanwhile."""
    path = make_clip()
    with VideoReader(path) as reader:
        wanted = [frame.image for frame in reader]
    for frame, image in zip(frames(path), wanted, strict=True):
        np.testing.assert_array_equal(frame.image, image)
        assert frame.image is frame.image


def test_nv12_is_taken_as_it_is() -> None:
    """It is what GPUs decode to."""
    pixels = np.random.default_rng(0).integers(16, 236, (36, 40), np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="nv12")
    planes = planes_of(frame, (24, 40))
    assert planes is not None
    np.testing.assert_array_equal(np.concatenate([planes.luma, planes.chroma]), pixels)
    assert planes_of(frame, (24, 42)) is None
    frame.colorspace = 9  # BT.2020
    assert planes_of(frame, (24, 40)) is None

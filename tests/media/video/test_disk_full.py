"""Tests of writing to a disk that is really full: a small one in memory."""

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.errors import OutputError
from atas_deploy.media.video import Frame, MaskLines, MaskSequence, VideoReader, VideoWriter

SIZE = (240, 320)
PALETTE = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB; skips where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if not sys.platform.startswith("linux"):
        pytest.skip("a full disk is tested on Linux only: it needs a tmpfs")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a full disk is not tested here: mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def noise(index: int) -> np.ndarray:
    """Draw what no encoder can make small."""
    return np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def write_video(place: Path, count: int) -> None:
    """Write a video of noise."""
    with VideoWriter(place / "a.mp4", size=SIZE, rate=Fraction(25), crf=5) as out:
        for index in range(count):
            out.write(noise(index))


def write_masks(kind: str, place: Path, count: int) -> None:
    """Write masks of noise."""
    out = MaskLines(place / "a") if kind == "lines" else MaskSequence(place / "a", PALETTE)
    with out:
        for index in range(count):
            frame = Frame(
                index=index,
                time=index / 25,
                pts=index,
                duration=1,
                time_base=Fraction(1, 25),
                convert=lambda: np.zeros((*SIZE, 3), np.uint8),
            )
            out.write(noise(index)[..., 0] % 3, frame)


def test_video(small_disk: Path) -> None:
    """A disk that fills up under way is one sentence, and nothing stays."""
    with pytest.raises(OutputError, match=r"Cannot write .*a\.mp4: the disk is full"):
        write_video(small_disk, 30)
    assert not list(small_disk.iterdir())


def outcome(place: Path, count: int) -> str:
    """Write a video of noise and tell how that went."""
    try:
        write_video(place, count)
    except OutputError as error:
        return str(error)
    return "whole"


def test_video_that_hardly_fits(small_disk: Path) -> None:
    """Whenever the disk fills up, at the very end too, the file is whole or not there."""
    outcomes = set()
    for count in range(1, 9):
        message = outcome(small_disk, count)
        outcomes.add(message)
        if message == "whole":
            with VideoReader(small_disk / "a.mp4") as reader:
                assert len(list(reader)) == count
            (small_disk / "a.mp4").unlink()
        assert not list(small_disk.iterdir())
    assert "whole" in outcomes
    assert all("the disk is full" in message for message in outcomes - {"whole"})
    assert len(outcomes) == 2


@pytest.mark.parametrize("kind", ["lines", "folder"])
def test_masks(small_disk: Path, kind: str) -> None:
    """Masks do not stay half written either."""
    with pytest.raises(OutputError, match="the disk is full"):
        write_masks(kind, small_disk, 50)
    assert not list(small_disk.iterdir())

"""Tests of the job: what is held in memory, and what happens when nothing more can be written."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.cli.progress import Silent
from atas_deploy.core.errors import OutputError
from atas_deploy.core.region import Region
from atas_deploy.media.annotations import Picture
from atas_deploy.media.sources import find_sources
from atas_deploy.media.video import VideoWriter
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.region_job import GridRegions, RegionJob
from atas_deploy.runtime.regions import RegionClassifier, TrackLinker

AHEAD = 12  # pictures between the one that is read and the one that is written


@pytest.fixture(scope="module")
def classifier() -> RegionClassifier:
    """Three classes, a small encoder input."""
    return RegionClassifier(classes="sky,tree,dog", short_side=64, cache=False)


class Watched(GridRegions):
    """A grid that counts how often it is asked."""

    asked = 0

    def regions(self, picture: Picture, linker: TrackLinker | None = None) -> Sequence[Region]:
        """The boxes."""
        self.asked += 1
        return super().regions(picture, linker)


class Watching(Silent):
    """Notes how far reading was ahead whenever something was written."""

    def __init__(self, grid: Watched) -> None:
        self._grid, self.done, self.most = grid, 0, 0

    def advance(self, count: int = 1) -> None:
        """Something was written."""
        self.done += count
        self.most = max(self.most, self._grid.asked - self.done)


@pytest.mark.parametrize("kind", ["images", "video"])
def test_few_pictures_are_held(tmp_path: Path, classifier: RegionClassifier, kind: str) -> None:
    """However many there are, reading is a few pictures ahead of writing."""
    folder = tmp_path / "in"
    folder.mkdir()
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    if kind == "images":
        for i in range(60):
            Image.fromarray(image).save(folder / f"{i:02d}.png")
    else:
        with VideoWriter(folder / "clip.mp4", size=(48, 64), rate=Fraction(10)) as writer:
            for _ in range(60):
                writer.write(image)
    grid = Watched(2)
    progress = Watching(grid)
    job = RegionJob(classifier, grid, tmp_path / "out", progress=progress, options=JobOptions())
    tally = job.run(find_sources([str(folder)]))
    assert (progress.done, tally.regions, tally.complete) == (60, 240, True)
    assert 0 <= progress.most <= AHEAD


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that holds 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as exc:
        pytest.skip(f"no small disk can be made here: {exc}")
    if done.returncode:
        pytest.skip(f"no small disk can be made here (root may): {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_full_disk(tmp_path: Path, small_disk: Path, classifier: RegionClassifier) -> None:
    """The job ends with one sentence; no torn file has the name of a result."""
    folder, out = tmp_path / "in", small_disk / "out"
    folder.mkdir()
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    for i in range(30):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    job = RegionJob(
        classifier, GridRegions(3), out, progress=Silent(), options=JobOptions(force=True)
    )
    with pytest.raises(OutputError, match="disk is full"):
        job.run(find_sources([str(folder)]))
    assert not list(out.rglob("*.part"))
    overlays = list(out.glob("*.jpg"))
    assert all(path.stat().st_size for path in overlays)
    named = json.loads((out / "coco_results.json").read_text())
    assert 0 < len(named) <= 9 * len(overlays)
    lines = (out / "regions.csv").read_text().splitlines()
    assert len(lines) == 1 + len(named)
    assert len({line.count(",") for line in lines}) == 1
    assert json.loads((out / "run.json").read_text())["complete"] is False

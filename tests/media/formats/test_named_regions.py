"""Tests of the tables of named regions, which grow picture by picture."""

import csv
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle

from atas_deploy.core.errors import OutputError
from atas_deploy.core.region import NamedRegions, Region
from atas_deploy.media.formats.growing import GrowingFile
from atas_deploy.media.formats.named_regions import CocoRegionResults, NamedPicture, RegionsCsv

NAMES = ("dog", "cat")


def mask() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A mask (10, 12) of 9 pixels with a hole."""
    pixels = np.zeros((10, 12), bool)
    pixels[2:6, 3:6] = True
    pixels[3:4, 3:6] = False
    return pixels


def picture(**known: Any) -> NamedPicture:
    """A picture with a box named cat, a mask named dog, and a box that is background."""
    regions = (
        Region(box=(1.25, 2.0, 5.0, 7.5), category=1, track=4, source_id=77),
        Region.from_mask(mask(), category=0),
        Region(box=(0.0, 0.0, 12.0, 10.0)),
    )
    labels = np.array([[2, 1], [1, 2], [0, 1]])
    scores = np.array([[0.75, 0.25], [0.6, 0.4], [0.5, 0.125]], np.float32)
    found = NamedRegions(regions, NAMES, labels, scores)
    return NamedPicture(**{"source": "a.png", "image_id": 5, "found": found} | known)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv(tmp_path: Path) -> None:
    """A line for each region: place, area, given class, names and scores, best first."""
    table = RegionsCsv(tmp_path / "r.csv", top=2, given=("puppy", "kitten"))
    table.write(picture(frame=3, time=0.12))
    table.close()
    first, second, third = read_csv(tmp_path / "r.csv")
    assert first == {
        "source": "a.png",
        "image_id": "5",
        "frame": "3",
        "time": "0.12",
        "region": "77",
        "track": "4",
        "x0": "1.25",
        "y0": "2",
        "x1": "5",
        "y1": "7.5",
        "area": "20.62",
        "given": "kitten",
        "name": "cat",
        "score": "0.7500",
        "name_2": "dog",
        "score_2": "0.2500",
    }
    assert (second["region"], second["area"], second["given"]) == ("2", "9", "puppy")
    assert (third["name"], third["given"], third["track"]) == ("background", "", "")


def test_given_classes_without_names(tmp_path: Path) -> None:
    """A file that numbers its classes only is shown by its numbers."""
    table = RegionsCsv(tmp_path / "r.csv", top=2)
    table.write(picture())
    table.close()
    assert [row["given"] for row in read_csv(tmp_path / "r.csv")] == ["1", "0", ""]


def test_coco_results(tmp_path: Path) -> None:
    """A row for each region that is no background: bbox of a box, run lengths of a mask."""
    results = CocoRegionResults(tmp_path / "r.json")
    results.write(picture())
    results.close()
    box, region = json.loads((tmp_path / "r.json").read_text())
    assert box == {
        "image_id": 5,
        "id": 77,
        "category_id": 2,
        "bbox": [1.25, 2, 3.75, 5.5],
        "score": 0.75,
    }
    assert set(region) == {"image_id", "category_id", "segmentation", "score"}
    np.testing.assert_array_equal(rle.decode(region["segmentation"]), mask())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_whole_after_any_number_of_pictures(tmp_path: Path, count: int) -> None:
    """Both files are valid whenever they are closed, and appear only then."""
    table = RegionsCsv(tmp_path / "r.csv", top=2)
    results = CocoRegionResults(tmp_path / "r.json")
    for _ in range(count):
        table.write(picture())
        results.write(picture())
    assert not (tmp_path / "r.csv").exists()
    assert not (tmp_path / "r.json").exists()
    table.close()
    results.close()
    assert len(read_csv(tmp_path / "r.csv")) == 3 * count
    assert len(json.loads((tmp_path / "r.json").read_text())) == 2 * count
    assert sorted(os.listdir(tmp_path)) == ["r.csv", "r.json"]  # noqa: PTH208


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may be larger than so many bytes."""
    resource = pytest.importorskip("resource")  # not on Windows
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_piece_is_written_as_a_whole_or_not(tmp_path: Path) -> None:
    """What a full disk tears is taken back, and the rest stays valid."""
    file = GrowingFile(tmp_path / "file.txt", ending="end\n")
    file.append("first\n")
    with largest_file(4096), pytest.raises(OutputError, match=r"^Cannot write [^:]*file\.txt: "):
        file.append("x" * 100_000)
    file.append("second\n")
    file.close()
    assert (tmp_path / "file.txt").read_text() == "first\nsecond\nend\n"


def test_the_last_piece_can_be_taken_back(tmp_path: Path) -> None:
    """The file is as if it had never been written, and grows on."""
    file = GrowingFile(tmp_path / "file.txt", start="start\n", ending="end\n")
    file.append("first\n")
    file.append("second, which is longer\n")
    file.take_back()
    file.append("third\n")
    file.close()
    assert (tmp_path / "file.txt").read_text() == "start\nfirst\nthird\nend\n"


def test_no_room_for_the_ending(tmp_path: Path) -> None:
    """The list of results ends whenever the disk is full: not a byte more is needed to close it."""
    results = CocoRegionResults(tmp_path / "r.json")
    results.write(picture())
    [part] = tmp_path.iterdir()
    with largest_file(part.stat().st_size):
        with pytest.raises(OutputError):
            results.write(picture())
        results.close()
    assert len(json.loads((tmp_path / "r.json").read_text())) == 2


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    """A file that is given up disappears, and the old one of its name stays."""
    (tmp_path / "file.txt").write_text("old")
    file = GrowingFile(tmp_path / "file.txt")
    file.append("new")
    file.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


def test_no_folder(tmp_path: Path) -> None:
    """A file in a folder that does not exist is refused in one sentence."""
    with pytest.raises(OutputError, match="folder does not exist"):
        GrowingFile(tmp_path / "missing" / "file.txt")

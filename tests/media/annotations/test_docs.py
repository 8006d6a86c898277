"""The page on annotations: its examples can be read, and its code runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.region import Region
from atas_deploy.media.annotations import Picture, open_boxes, open_masks

PAGE = Path(__file__).resolve().parents[3] / "docs" / "annotations.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
NAMES = {"json": "boxes.json", "yolo": "one.txt", "csv": "boxes.csv", "mot": "gt.txt"}
NUMBERED = Picture("000001.jpg", (480, 640)), Picture("000007.jpg", (480, 640))


def regions(path: Path) -> list[Region]:
    """The boxes of a file for the picture that the examples are about."""
    file, pictures = open_boxes(path), (Picture("one.jpg", (480, 640)), *NUMBERED)
    for picture in pictures[1:] if path.name in ("results.json", "gt.txt") else pictures[:1]:
        if found := file.regions(picture):
            return found
    return []


@pytest.mark.parametrize(("kind", "text"), [block for block in BLOCKS if block[0] != "python"])
def test_examples(kind: str, text: str, write) -> None:
    """Each example has the box of the page, (10, 20) to (40, 60)."""
    ids = np.zeros((480, 640, 3), np.uint8)
    ids[20:60, 10:40] = 44, 1, 0
    write("boxes/one.png", ids)
    name = "results.json" if kind == "json" and text.startswith("[") else NAMES[kind]
    found = regions(write(name, text))
    assert found
    for region in found:
        assert region.box == pytest.approx((10, 20, 40, 60), abs=0.01)


def test_code(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The code prints the box of the table."""
    (table,) = (text for kind, text in BLOCKS if kind == "csv")
    (code,) = (text for kind, text in BLOCKS if kind == "python")
    write("boxes.csv", table)
    monkeypatch.chdir(tmp_path)
    seen: dict[str, object] = {}
    exec(code, seen)
    assert capsys.readouterr().out == "(10.0, 20.0, 40.0, 60.0) 0\n"
    assert seen["missed"] == []


def test_masks_of_the_examples(write) -> None:
    """The polygons of COCO and YOLO are the same mask."""
    coco = next(text for kind, text in BLOCKS if kind == "json")
    yolo = next(text for kind, text in BLOCKS if kind == "yolo").splitlines()[1]
    picture = Picture("one.jpg", (480, 640))
    (one,) = open_masks(write("boxes.json", coco)).regions(picture)
    (other,) = open_masks(write("one.txt", yolo)).regions(picture)
    assert one.rle == other.rle

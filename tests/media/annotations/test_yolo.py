"""YOLO's text: boxes, confidences, polygons and the names of classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.core.errors import AnnotationError, InputError
from atas_deploy.media.annotations import Picture, open_boxes, open_masks

# pycocotools 2.0.11 decodes through an array class that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ONE = Picture("images/one.jpg", (100, 200))
SQUARE = "2 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"


def test_boxes(write) -> None:
    """Centre and size in shares become corners in pixels; blank lines do not count."""
    write("labels/one.txt", "1 0.5 0.5 0.1 0.2\n\n0 0.25 0.1 0.5 0.2 0.75\n")
    file = open_boxes(write("labels/two.txt", "").parent)
    first, second = file.regions(ONE)
    assert first.box == pytest.approx((90, 40, 110, 60))
    assert second.box == pytest.approx((0, 0, 100, 20))
    assert (first.category, first.score) == (1, None)
    assert (second.category, second.score) == (0, 0.75)
    assert file.class_names is None
    assert file.unmatched() == ["two.txt"]


def test_capitals(write) -> None:
    """one.TXT is text, too."""
    file = open_boxes(write("labels/one.TXT", "1 0.5 0.5 0.1 0.2").parent)
    assert len(file.regions(ONE)) == 1


def test_an_empty_file_has_no_boxes(write) -> None:
    """So says YOLO that nothing is there."""
    file = open_boxes(write("one.txt", ""))
    assert file.regions(ONE) == []
    assert file.unmatched() == []


def test_polygons(write) -> None:
    """They are masks, and boxes if boxes are asked for."""
    path = write("one.txt", SQUARE)
    (mask,), (box,) = open_masks(path).regions(ONE), open_boxes(path).regions(ONE)
    expected = np.zeros((100, 200), bool)
    expected[25:75, 50:150] = True
    np.testing.assert_array_equal(mask.mask(), expected)
    assert mask.box == box.box == (50, 25, 150, 75)
    assert mask.category == box.category == 2
    assert box.rle is None


def test_rounding_is_tolerated(write) -> None:
    """Boxes that reach beyond the picture by rounding are clipped to it."""
    (region,) = open_boxes(write("one.txt", "0 1.0005 0.5 0.2 1.001")).regions(ONE)
    assert region.box == pytest.approx((180.1, 0, 200, 100))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "dog\nbig cat\nit's\n\n"),
        ("obj.names", "dog\nbig cat\nit's"),
        ("data.yaml", "train: a\nnames: [dog, 'big cat', \"it's\"]  # three\nnc: 3\n"),
        ("data.yaml", "names: [\n  dog, big cat,\n  'it''s'\n]\n"),
        ("data.yaml", "nc: 3\nnames:\n- dog\n- big cat\n- it's\nval: b\n"),
        ("data.yml", "names:\n  # three\n  0: dog\n  1: 'big cat'  # the second\n\n  2: it's\n"),
        ("dataset.yaml", 'names: {1: big cat, 0: "dog", 2: "it\'s"}'),
    ],
)
@pytest.mark.parametrize("folder", ["labels/train", "labels", "."])
def test_names_of_classes(name: str, text: str, folder: str, write, tmp_path: Path) -> None:
    """They are found beside the text or above it, in the forms that tools write."""
    write("labels/train/one.txt", "1 0.5 0.5 0.1 0.2")
    write(f"{folder}/{name}", text)
    file = open_boxes(tmp_path / "labels" / "train")
    assert file.class_names == ("dog", "big cat", "it's")
    assert file.regions(ONE)[0].category == 1
    assert file.unmatched() == []


@pytest.mark.parametrize(
    "text",
    [
        "names: *other\n",
        "names: ['dog]\n",
        'names: ["d\\o"]\n',
        "names: [b, 'a #1']\n",
        "names: [dog, cat\n",
        "names:\n  3: dog\n",
        "names:\n  dog\n",
        "nc: 3\n",
    ],
)
def test_names_that_are_not_understood(text: str, write) -> None:
    """They count as none."""
    write("data.yaml", text)
    assert open_boxes(write("one.txt", "1 0.5 0.5 0.1 0.2")).class_names is None


def test_splits_are_told_apart(write, tmp_path: Path) -> None:
    """labels/val/one.txt belongs to images/val/one.jpg, not to images/train/one.jpg."""
    write("labels/train/one.txt", "1 0.5 0.5 0.1 0.2")
    write("labels/val/one.txt", "2 0.5 0.5 0.1 0.2")
    file = open_boxes(tmp_path / "labels")
    for split, category in (("val", 2), ("train", 1)):
        (region,) = file.regions(Picture(f"images/{split}/one.jpg", (100, 200)))
        assert region.category == category
    with pytest.raises(AnnotationError, match=r'one.jpg may be "train/one.txt" or "val/one.txt"'):
        file.regions(Picture("one.jpg", (100, 200)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dog 0.5 0.5 0.1 0.2", "has the class 'dog', expected a number"),
        ("1.5 0.5 0.5 0.1 0.2", "has the class '1.5', expected a whole number"),
        ("-1 0.5 0.5 0.1 0.2", "has the class -1, expected one from 0 on"),
        ("1 0.5 0.5 0.1", "has 4 values .* expected .class cx cy w h."),
        ("1 0.5 0.5 0.1 0.2 0.9 0.3 0.4", "has 8 values .* expected .class cx cy w h."),
        ("1 0.5 0.5 nan 0.2", "has the value 'nan', expected a number"),
        ("1 0.5 0.5 0.1 high", "has the value 'high', expected a number"),
        ("1 90 40 20 20", "has the value 90, expected shares of the picture from 0 to 1"),
        ("1 0.5 0.5 -0.1 0.2", "has the value -0.1, expected shares"),
        ("1 0.5 0.5 0 0.2", "has a box 0 wide and 20 high, expected sizes above 0"),
        ("1 0.5 0.5 0.1 0.2 87", "has the score 87, expected one from 0 to 1"),
        ("2 0.1 0.1 0.2 0.1 0.2 1.5", "has the value 1.5, expected shares"),
    ],
)
def test_bad_lines(line: str, message: str, write) -> None:
    """Each is one sentence that names the file and the line."""
    path = write("one.txt", f"0 0.5 0.5 0.1 0.2\n\n{line}\n")
    with pytest.raises(AnnotationError, match=f"{path}: line 3 {message}"):
        open_boxes(path).regions(ONE)


def test_classes_beyond_the_names(write) -> None:
    """A class that has no name is refused where others have one."""
    write("classes.txt", "dog\ncat\n")
    file = open_boxes(write("one.txt", "2 0.5 0.5 0.1 0.2"))
    with pytest.raises(AnnotationError, match="line 1 has the class 2, expected one from 0 to 1"):
        file.regions(ONE)


def test_boxes_are_no_masks(write) -> None:
    """Where masks are asked for, a line that is a box is named."""
    file = open_masks(write("one.txt", f"{SQUARE}\n1 0.5 0.5 0.1 0.2"))
    with pytest.raises(AnnotationError, match="line 2 is a box, expected a polygon"):
        file.regions(ONE)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe1\x00", "is not UTF-8 text"), (b"1 0.5\x00", "is a binary file")],
)
def test_bad_files(content: Any, message: str, write) -> None:
    """A picture or other bytes named .txt are refused."""
    path = write("one.txt", content)
    with pytest.raises(InputError, match=f"{path} {message}"):
        open_boxes(path)

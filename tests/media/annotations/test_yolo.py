"""YOLO's text: boxes, confidences, polygons and the names of classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.core.errors import AnnotationError, InputError
from atas_deploy.media.annotations import Picture, open_boxes, open_masks

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
        ("data.yaml", "train: a\r\nnames:\r\n- dog\r\n- big cat\r\n- it's\r\nval: b\r\n"),
        ("data.yaml", "nc: 3\r\nnames:\r\n  0: dog\r\n  1: big cat\r\n  2: it's\r\n"),
        ("data.yaml", "\"names\": ['dog', big cat, it's,]\r\n"),
        ("data.yaml", "'names':\n  '0': dog\n  \"1\": big cat\n  2: it's\n---\n"),
        ("data.yaml", "names: [ # three\n  dog, # the first\n  big cat,\n  it's\n]\n"),
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
        "names: &a [b, c]\n",
        "names:\n  - a: b\n",
        "names:\n- ''\n",
        "names: [dog, cat\n",
        "names:\n  3: dog\n",
        "names:\n  dog\n",
    ],
)
def test_names_that_are_not_understood(text: str, write) -> None:
    """They are told rather than lost."""
    path = write("data.yaml", text)
    with pytest.raises(AnnotationError, match=f"{path}: names cannot be understood, expected a"):
        open_boxes(write("one.txt", "1 0.5 0.5 0.1 0.2"))


def test_tables_without_names(write) -> None:
    """A list of classes may lie beside."""
    write("data.yaml", "nc: 2\nroboflow:\n  names: x\n")
    write("classes.txt", "dog\r\ncat\r\n")
    assert open_boxes(write("one.txt", "1 0.5 0.5 0.1 0.2")).class_names == ("dog", "cat")


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
        ("1 0.5 0.5 0.1", "has 4 values, expected .class cx cy w h."),
        ("1 0.5 0.5", "has 3 values, expected .class cx cy w h."),
        ("1 0.5 0.5 nan 0.2", "has the value 'nan', expected a number"),
        ("1 0.5 0.5 0.1 high", "has the value 'high', expected a number"),
        ("1 90 40 20 20", "has the value 90, expected shares of the picture from 0 to 1"),
        ("1 0.5 0.5 -0.1 0.2", "has the value -0.1, expected shares"),
        ("1 0.5 0.5 -0.001 0.2", "has a box -0.2 wide and 20 high, expected sizes above 0"),
        ("1 0.5 0.5 0.1 0.2 87.5", "has the score 87.5, expected one from 0 to 1"),
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
    """Where masks are asked for, a line that is a box is left out and told."""
    file = open_masks(write("one.txt", f"{SQUARE}\n1 0.5 0.5 0.1 0.2"))
    assert [region.category for region in file.regions(ONE)] == [2]
    (sentence,) = file.faults.sentences
    assert f"{file.path}: line 2 is a box, expected a polygon, so it was left out" in sentence


def test_boxes_without_area(write) -> None:
    """They are left out and told, and the others of the picture are read."""
    file = open_boxes(write("one.txt", "0 0.5 0.5 0 0.2\n1 0.5 0.5 0.1 0.2\n"))
    assert [region.category for region in file.regions(ONE)] == [1]
    assert "line 1 has a box 0 wide and 20 high, so it was left out" in file.faults.sentences[0]


BOX = "0 0.5 0.5 0.1 0.2"
QUAD = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 1"


@pytest.mark.parametrize(
    ("lines", "scores", "tracks"),
    [
        ([f"{BOX} 0.9", f"{BOX} 0.25"], [0.9, 0.25], [None, None]),
        ([f"{BOX} 0.9 1", f"{BOX} 0.25 7"], [0.9, 0.25], [1, 7]),
        ([f"{BOX} 0.9 12"], [0.9], [12]),
        ([f"{BOX} 3", f"{BOX} 1"], [None, None], [3, 1]),
        ([f"{BOX} 1.0"], [1], [None]),
        ([f"{BOX} 1", f"{BOX} 1"], [1, 1], [None, None]),
        ([f"{BOX} 1"], [None], [None]),
        ([BOX, f"{BOX} 0.5"], [None, 0.5], [None, None]),
        ([f"{QUAD} 0.5"], [0.5], [None]),
        ([f"{QUAD} 0.5 2", f"{QUAD} 0.75 3"], [0.5, 0.75], [2, 3]),
        ([QUAD], [None], [None]),
    ],
)
def test_what_detectors_and_trackers_write(lines: list[str], scores, tracks, write) -> None:
    """Confidences and numbers of objects, also after polygons, are told by all lines together."""
    regions = open_boxes(write("one.txt", "\n".join(lines))).regions(ONE)
    assert [region.score for region in regions] == scores
    assert [region.track for region in regions] == tracks
    box = (90, 40, 110, 60) if lines[0].startswith(BOX) else (50, 25, 150, 100)
    for region in regions:
        assert region.box == pytest.approx(box)


def test_triangles(write) -> None:
    """Three points are no box with a confidence and a track, if their last value tells."""
    file = open_masks(write("one.txt", "2 0.25 0.25 0.75 0.25 0.75 0.75"))
    assert file.regions(ONE)[0].rle is not None
    file = open_masks(write("one.txt", f"{BOX} 0.9 1"))
    with pytest.raises(AnnotationError, match="line 1 may be a triangle, or a box with a conf"):
        file.regions(ONE)


@pytest.mark.parametrize("bad", ["", "dog", "0 0.5 0.5 0.1"])
def test_other_files_tell_what_one_does_not(bad: str, write, tmp_path: Path) -> None:
    """Object 1 alone may be no object; the frames with others say that it is one."""
    write("labels/0.txt", bad)
    for number in (1, 2):
        write(f"labels/{number}.txt", f"{BOX} 0.9 {number}")
    (region,) = open_boxes(tmp_path / "labels").regions(Picture("1.jpg", (100, 200)))
    assert (region.score, region.track) == (0.9, 1)


POSE = " 0.45 0.4 {0} 0.55 0.45 {0} 0.5 0.6 {0}"


@pytest.mark.parametrize("values", [POSE.format(2), POSE.format(""), POSE.format(0.75)])
def test_keypoints(values: str, write) -> None:
    """They are told where data.yaml does not say how many there are; else the box is read."""
    path = write("one.txt", BOX + values)
    with pytest.raises(AnnotationError, match=r"line 1 has .* seem to be of keypoints: put a data"):
        open_boxes(path).regions(ONE)
    size = 2 if values == POSE.format("") else 3
    write("data.yaml", f"kpt_shape: [3, {size}]\nnames: [person]\n")
    (region,) = open_boxes(path).regions(ONE)
    assert region.box == pytest.approx((90, 40, 110, 60))
    write("one.txt", f"{BOX}{values} 0.5 3")
    (region,) = open_boxes(path).regions(ONE)
    assert (region.score, region.track) == (0.5, 3)
    write("one.txt", f"{BOX}{values} 0.5 3 4")
    with pytest.raises(AnnotationError, match=r"line 1 has .* as kpt_shape in data.yaml says"):
        open_boxes(path).regions(ONE)


def test_text_that_is_no_labels(write, tmp_path: Path) -> None:
    """Readmes, lists of pictures and of classes, hidden files and folders are passed over."""
    write("labels/one.txt", BOX)
    write("labels/test.txt", BOX)
    for name in ("README.roboflow.txt", "labels/readme.txt", "labels/._one.txt"):
        write(name, "text")
    write("train.txt", "images/one.jpg\nimages/two.jpg\n")
    write("labels/classes.txt", "dog")
    (tmp_path / "folder.txt").mkdir()
    file = open_boxes(tmp_path)
    assert len(file.regions(ONE)) == 1
    assert file.unmatched() == ["labels/test.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe1\x00", "is not UTF-8 text"), (b"1 0.5\x00", "is a binary file")],
)
def test_bad_files(content: Any, message: str, write) -> None:
    """A picture or other bytes named .txt are refused."""
    path = write("one.txt", content)
    with pytest.raises(InputError, match=f"{path} {message}"):
        open_boxes(path)

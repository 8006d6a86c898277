"""Boxes in CSV."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.core.errors import AnnotationError, InputError
from atas_deploy.core.region import NamedRegions, Region
from atas_deploy.media.annotations import Picture, open_boxes
from atas_deploy.media.formats.named_regions import NamedPicture, RegionsCsv

ONE = Picture("one.jpg", (100, 200))


@pytest.mark.parametrize("image", ["image", "file", "filename", "file_name", "path", " Image "])
@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("x0,y0,x1,y1", "10,20,40,60"),
        ("xmin,ymin,xmax,ymax", "10,20,40,60"),
        ("x,y,w,h", "10,20,30,40"),
        ("h,w,y,x", "40,30,20,10"),
        ("x,y,width,height", "10.0,2e1,30,40"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_headers(image: str, header: str, values: str, separator: str, write) -> None:
    """Corners, or a corner and sizes, in any order and with any separator."""
    text = f"{image},{header}\nphotos/one.jpg,{values}\n\n".replace(",", separator)
    (region,) = open_boxes(write("boxes.csv", text)).regions(ONE)
    assert region.box == (10, 20, 40, 60)
    assert (region.category, region.track, region.score) == (None, None, None)


def test_other_columns(write) -> None:
    """Class, track and score are taken where they are filled; classes count as they come."""
    text = (
        "image,label,track,score,x0,y0,x1,y1,note\r\n"
        'one.jpg,"dog, big",7,0.5,0,0,10,10,"two\r\nlines"\r\n'
        "one.jpg,cat,-1,,0,0,10,10,\r\n"
        "two.jpg,,,,0,0,10,10,\r\n"
        'one.jpg,"dog, big",8,1,0,0,10,10,\r\n'
    )
    file = open_boxes(write("boxes.csv", text.encode("utf-8-sig")))
    regions = file.regions(ONE)
    assert file.class_names == ("dog, big", "cat")
    assert [region.category for region in regions] == [0, 1, 0]
    assert [region.track for region in regions] == [7, None, 8]
    assert [region.score for region in regions] == [0.5, None, 1]
    assert file.regions(Picture("two.jpg", (50, 50)))[0].category is None


def test_what_classify_writes(tmp_path: Path) -> None:
    """The table of named regions comes back: boxes, frames, tracks, best names and scores."""
    boxes = [Region(box=(1, 2, 3.5, 4), track=7), Region(box=(0, 0, 9, 9), category=0)]
    found = NamedRegions(
        tuple(boxes),
        ("dog", "big, cat"),
        np.array([[2, 1], [0, 1]]),
        np.array([[0.75, 0.25], [0.5, 0.125]], np.float32),
    )
    table = RegionsCsv(tmp_path / "regions.csv", top=2, given=("cat",))
    table.write(NamedPicture(source="clips/a.mp4", image_id=1, found=found, frame=3, time=0.1))
    table.close()
    file = open_boxes(tmp_path / "regions.csv")
    back = file.regions(Picture("a.mp4", (50, 50), 3))
    assert [region.box for region in back] == [region.box for region in boxes]
    assert [region.track for region in back] == [7, None]
    assert [region.score for region in back] == [0.75, 0.5]
    assert file.class_names == ("big, cat", "background")


def test_frames_of_videos(write) -> None:
    """A frame, counted from 0, has its own rows and those of its video without a frame."""
    text = "file,frame,x,y,w,h\na.mp4,0,0,0,5,5\na.mp4,2,0,0,6,6\na.mp4,,0,0,7,7\nb.mp4,0,0,0,8,8\n"
    file = open_boxes(write("boxes.csv", text))
    sizes = [
        [region.size for region in file.regions(Picture("clips/a.mp4", (50, 50), frame))]
        for frame in range(2)
    ]
    assert sizes == [[(5, 5), (7, 7)], [(7, 7)]]
    assert file.unmatched() == ["b.mp4", "a.mp4, frame 2"]


def test_frames_without_names(write) -> None:
    """A table of frames only is that of the one video."""
    file = open_boxes(write("boxes.csv", "frame,id,x,y,w,h\n0,3,0,0,5,5\n4,3,0,0,6,6\n"))
    (region,) = file.regions(Picture("a.mp4", (50, 50), 4))
    assert (region.size, region.track) == ((6, 6), 3)
    assert file.unmatched() == ["frame 0"]


def test_boxes_are_clipped(write) -> None:
    """What reaches outside of the picture is cut off."""
    file = open_boxes(write("boxes.csv", "image,x0,y0,x1,y1\none.jpg,-5,90,300,101\n"))
    assert file.regions(ONE)[0].box == (0, 90, 200, 100)


def test_a_header_alone_has_no_boxes(write) -> None:
    """Nothing was found: no regions, no error."""
    file = open_boxes(write("boxes.csv", "image,x0,y0,x1,y1\n"))
    assert file.regions(ONE) == []
    assert file.unmatched() == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("one.jpg,1,2,3", "has 4 values, expected 5 as in the first line"),
        ("one.jpg,1,2,3,4,5", "has 6 values, expected 5 as in the first line"),
        ("one.jpg,1,2,x,4", "has the x1 'x', expected a number"),
        ("one.jpg,1,2,nan,4", "has the x1 'nan', expected a number"),
        ("one.jpg,1,2,inf,4", "has the x1 'inf', expected a number"),
        ("one.jpg,1,2,,4", "has the x1 '', expected a number"),
        ("one.jpg,3,2,1,4", "has a box -2 wide and 2 high, expected sizes above 0"),
        (",3,2,5,4", "names no picture: fill its column image"),
    ],
)
def test_bad_lines(row: str, message: str, write) -> None:
    """Each is one sentence that names the file and the line."""
    path = write("boxes.csv", f"image,x0,y0,x1,y1\none.jpg,1,1,2,2\n{row}\n")
    with pytest.raises(AnnotationError, match=f"{path}: line 3 {message}"):
        open_boxes(path).regions(ONE)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,2,3,4,one.jpg,x,,", "has the frame 'x', expected a number"),
        ("1,2,3,4,one.jpg,-1,,", "has the frame -1, expected numbers from 0 on"),
        ("1,2,3,4,one.jpg,1.5,,", "has the frame '1.5', expected a whole number"),
        ("1,2,3,4,one.jpg,,a,", "has the track 'a', expected a number"),
        ("1,2,3,4,one.jpg,,,high", "has the score 'high', expected a number"),
        ("1,2,3,4,one.jpg,,,1.2", "has the score 1.2, expected one from 0 to 1"),
    ],
)
def test_bad_values_of_other_columns(row: str, message: str, write) -> None:
    """Frames, tracks and scores are checked, too."""
    path = write("boxes.csv", f"x0,y0,x1,y1,image,frame,track,score\n{row}\n")
    with pytest.raises(AnnotationError, match=f"{path}: line 2 {message}"):
        open_boxes(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the first line has no columns x0, y0, x1, y1"),
        ("one.jpg,1,2,3,4\n", "the first line has no columns x0, y0, x1, y1"),
        ("image,x0,y0,x1\none.jpg,1,2,3\n", "the first line has no columns x0, y0, x1, y1"),
        ("picture,x0,y0,x1,y1\n", r"the first line has no columns image \(or frame\)"),
        ("frame,x0,y0,x1,y1\n,1,2,3,4\n", "line 2 names no picture"),
        ("image,x0,y0,x1,y1\n" + "a" * 200_000, "line 2 cannot be read"),
        ("image,x0,y0,x1,y1\ncafé".encode("latin-1"), "is not UTF-8 text"),
        ("image,x0,y0,x1,y1\n".encode("utf-16"), "is not UTF-8 text"),
        (b"image\x00", "is a binary file"),
    ],
)
def test_bad_files(content: Any, message: str, write) -> None:
    """Each is one sentence that names the file."""
    path = write("boxes.csv", content)
    with pytest.raises(InputError, match=f"{path}:? {message}"):
        open_boxes(path)


def test_boxes_of_which_nothing_can_be_seen(write) -> None:
    """They are left out and told, and the others of the picture are read."""
    text = "image,x0,y0,x1,y1\none.jpg,3,2,5,2\none.jpg,200,2,205,4\none.jpg,1,1,2,2\n"
    file = open_boxes(write("boxes.csv", text))
    assert [region.box for region in file.regions(ONE)] == [(1, 1, 2, 2)]
    flat, outside = file.faults.sentences
    assert f"{file.path}: line 2 has a box 2 wide and 0 high, so it was left out" in flat
    assert f"{file.path}: line 3 has the box (200, 2) to (205, 4), which lies outside" in outside


def test_a_picture_without_boxes(write) -> None:
    """A line whose box is empty says that nothing is there."""
    file = open_boxes(write("boxes.csv", "image,x0,y0,x1,y1,label\none.jpg,,,,,\n"))
    assert file.regions(ONE) == []
    assert file.unmatched() == []


def test_boxes_in_shares(write) -> None:
    """They are refused, as a picture of nothing but its first pixel would be named."""
    text = "ImageID,Source,XMin,XMax,YMin,YMax\none,xclick,0.1,0.5,0.2,0.6\none,x,0,1,0,1\n"
    path = write("boxes.csv", text)
    with pytest.raises(AnnotationError, match=f"{path} has boxes from 0 to 1 only, expected pix"):
        open_boxes(path)


@pytest.mark.parametrize("column", ["ImageID", "image_id", "image_name"])
def test_names_before_sources(column: str, write) -> None:
    """Where boxes come from is no picture, unless it is the table of a run."""
    text = f"source,{column},x0,y0,x1,y1\nxclick,one.jpg,1,1,9,9\n"
    assert len(open_boxes(write("boxes.csv", text)).regions(ONE)) == 1


def test_frames_come_in_the_order_of_the_file(write) -> None:
    """Those of the frame and those of every frame, and of a picture all."""
    lines = ["a,,1,1,2,2", "a,3,1,1,3,3", "a,,1,1,4,4", "a,1,1,1,5,5", "a,3,1,1,6,6"]
    file = open_boxes(write("boxes.csv", "image,frame,x0,y0,x1,y1\n" + "\n".join(lines)))
    rights = [
        [region.box[2] for region in file.regions(Picture("a.mp4", (50, 50), frame))]
        for frame in (3, 1, 0, None)
    ]
    assert rights == [[2, 3, 4, 6], [2, 4, 5], [2, 4], [2, 3, 4, 5, 6]]

"""MOT challenge text: everything counts from 1."""

import pytest

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations import Picture, open_boxes

TRUTH = "1,2,1,1,10,20,1,1,0.8\n1,3,5,5,4,4,0,8,1\n3,2,2,1,10,20,1,1,0.5\n"


def test_a_video(write) -> None:
    """Frame 1 is the first of the video, (1, 1) the first pixel; conf 0 does not count."""
    file = open_boxes(write("gt.txt", TRUTH))
    (region,) = file.regions(Picture("clip.mp4", (50, 60), 0))
    assert (region.box, region.track, region.score) == ((0, 0, 10, 20), 2, None)
    assert region.category is None
    assert file.regions(Picture("clip.mp4", (50, 60), 1)) == []
    assert file.unmatched() == ["frame 3"]


def test_numbered_pictures(write) -> None:
    """img1/000003.jpg is frame 3."""
    (region,) = open_boxes(write("gt.txt", TRUTH)).regions(Picture("img1/000003.jpg", (50, 60)))
    assert region.box == (1, 0, 11, 20)


def test_detections(write) -> None:
    """They have no object; a confidence that is no share is left out."""
    text = "1,-1,1,1,10,20,0.9,-1,-1,-1\n1,-1,1,1,9,20,34.2,-1,-1,-1\n1,-1,1,1,8,20,0\n"
    regions = open_boxes(write("det.txt", text)).regions(Picture("a.mp4", (50, 60), 0))
    assert [region.score for region in regions] == [0.9, None, 0]
    assert [region.track for region in regions] == [None] * 3


def test_two_videos(write) -> None:
    """The file is that of one video; a second one is told."""
    file = open_boxes(write("gt.txt", TRUTH))
    file.regions(Picture("a.mp4", (50, 60), 0))
    with pytest.raises(AnnotationError, match=r'"frame 1" may be a.mp4, frame 0 or b.mp4, frame 0'):
        file.regions(Picture("b.mp4", (50, 60), 0))


def test_a_picture_without_number(write) -> None:
    """It cannot be matched."""
    with pytest.raises(AnnotationError, match=r"gt.txt tells pictures by frame only, .* dog.jpg"):
        open_boxes(write("gt.txt", TRUTH)).regions(Picture("dog.jpg", (50, 60)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,1,1,10", "has 5 values .*, expected frame, id, x, y, width, height"),
        ("1,2,1,1,10,20,1,1,1,1,1", "has 11 values"),
        ("a,2,1,1,10,20", "has the frame 'a', expected a number"),
        ("0,2,1,1,10,20", "has the frame 0, expected numbers from 1 on"),
        ("1.5,2,1,1,10,20", "has the frame '1.5', expected a whole number"),
        ("1,2,nan,1,10,20", "has the x 'nan', expected a number"),
        ("1,2,1,1,-10,20,1", "has a box -10 wide and 20 high"),
        ("3,2,1,1,10,20,1", "has the object 2 once more in frame 3"),
    ],
)
def test_bad_lines(line: str, message: str, write) -> None:
    """Each is one sentence that names the file and the line."""
    path = write("gt.txt", f"{TRUTH}{line}\n")
    with pytest.raises(AnnotationError, match=f"{path}: line 4 {message}"):
        open_boxes(path).regions(Picture("a.mp4", (50, 60), 0))


def test_boxes_of_which_nothing_can_be_seen(write) -> None:
    """Detectors find things beyond the edge of the picture; the others of the frame are read."""
    lines = "1,-1,1925,400,30,60,0.4\n1,-1,5,4,30,0,0.4\n1,-1,5,4,30,60,0.4\n"
    file = open_boxes(write("det.txt", lines))
    (region,) = file.regions(Picture("a.mp4", (1080, 1920), 0))
    assert region.box == (4, 3, 34, 63)
    outside, flat = file.faults.sentences
    assert f"{file.path}: line 1 has the box (1924, 399) to (1954, 459), which lies" in outside
    assert f"{file.path}: line 2 has a box 30 wide and 0 high, so it was left out" in flat


def test_spaces_instead_of_commas(write) -> None:
    """Some tools write them; one sentence says so."""
    path = write("gt.txt", "1 1 912 484 97 109 1 -1 -1 -1\n")
    with pytest.raises(AnnotationError, match=f"{path} has pixels that are separated by spaces"):
        open_boxes(path)

"""The format of a file is told by its suffix and by what is in it."""

from pathlib import Path

import pytest

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations import Picture, open_boxes, open_masks

BOXES = {
    "boxes.csv": "image,x,y,w,h\n1.jpg,0,0,5,5\n",
    "boxes.CSV": "image;x;y;w;h\n1.jpg;0;0;5;5\n",
    "boxes.tsv": "image\tx\ty\tw\th\n1.jpg\t0\t0\t5\t5\n",
    "gt.txt": "1,1,1,1,5,5\n",
    "1.txt": "0 0.05 0.05 0.1 0.1\n",
    "labels/1.txt": "0 0.05 0.05 0.1 0.1\n",
    "found.json": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 1}],
}


@pytest.mark.parametrize("name", BOXES)
def test_the_same_box_in_each_format(name: str, write) -> None:
    """All formats give the same box for a picture."""
    path = write(name, BOXES[name])
    path = path.parent if "/" in name else path
    (region,) = open_boxes(str(path)).regions(Picture("1.jpg", (50, 50)))
    assert region.box == pytest.approx((0, 0, 5, 5))


@pytest.mark.parametrize("name", ["x.xml", "x", "x.png"])
def test_unknown_kinds_of_boxes(name: str, write) -> None:
    """The formats that are known are listed."""
    path = write(name, "content")
    with pytest.raises(AnnotationError, match=f"{path} is of no known kind, expected boxes: COCO"):
        open_boxes(path)


def test_unknown_kinds_of_masks(write) -> None:
    """A table has no masks."""
    path = write("boxes.csv", BOXES["boxes.csv"])
    with pytest.raises(AnnotationError, match=f"{path} is of no known kind, expected masks: COCO"):
        open_masks(path)


@pytest.mark.parametrize("opened", [open_boxes, open_masks])
def test_folders_with_nothing(opened, tmp_path: Path) -> None:
    """A folder without text or PNGs is refused."""
    with pytest.raises(AnnotationError, match=f"{tmp_path} has no such files, expected"):
        opened(tmp_path)


@pytest.mark.parametrize("opened", [open_boxes, open_masks])
@pytest.mark.parametrize("name", ["none", "none.txt", "none.json", "none.png", "none.csv", "\0"])
def test_missing_files(opened, name: str, tmp_path: Path) -> None:
    """They are named."""
    with pytest.raises(
        AnnotationError, match=rf"{name} cannot be read \((No such file.*|.*null byte)\), expected"
    ):
        opened(tmp_path / name)


@pytest.mark.parametrize("name", ["boxes.csv", "gt.txt", "found.json"])
def test_files_are_read_once(name: str, write) -> None:
    """What was opened is not read again."""
    path = write(name, BOXES[name])
    file = open_boxes(path)
    path.unlink()
    assert len(file.regions(Picture("1.jpg", (50, 50)))) == 1

"""COCO's panoptic segments: JSON and PNGs that must agree."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from atas_deploy.core.errors import AnnotationError, InputError
from atas_deploy.media.annotations import PanopticFile, Picture, open_boxes, open_masks

IDS = (5, 300, 70_000)  # one for each byte


def colours(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Numbers (H, W) as COCO paints them."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65_536], -1).astype(np.uint8)


@pytest.fixture
def ids() -> npt.NDArray[np.int64]:
    """The number of the segment of each pixel, (4, 6); 0 in the first column."""
    ids = np.zeros((4, 6), np.int64)
    ids[:, 1:3], ids[:2, 3:], ids[2:, 3:] = IDS
    return ids


@pytest.fixture
def data() -> dict[str, Any]:
    """Two objects, one of them a crowd, and stuff."""
    segments = [
        {"id": IDS[2], "category_id": 200, "iscrowd": 0},
        {"id": IDS[0], "category_id": 1, "iscrowd": 0},
        {"id": IDS[1], "category_id": 1, "iscrowd": 1},
    ]
    return {
        "images": [{"id": 9, "file_name": "nine.jpg", "height": 4, "width": 6}],
        "categories": [
            {"id": 200, "name": "grass", "isthing": 0},
            {"id": 1, "name": "dog", "isthing": 1},
        ],
        "annotations": [{"image_id": 9, "file_name": "nine.png", "segments_info": segments}],
    }


def test_segments(write, data, ids) -> None:
    """Masks, tightest boxes, classes, numbers and crowds come in the order of the file."""
    write("x/nine.png", colours(ids))
    file = PanopticFile.open(write("x.json", data))
    segments = file.segments(file.images[0])
    assert [segment.thing for segment in segments] == [False, True, True]
    regions = [segment.region for segment in segments]
    assert [region.category for region in regions] == [0, 1, 1]
    assert [region.source_id for region in regions] == [IDS[2], IDS[0], IDS[1]]
    assert [region.crowd for region in regions] == [False, False, True]
    assert [region.box for region in regions] == [(3, 2, 6, 4), (1, 0, 3, 4), (3, 0, 6, 2)]
    for region in regions:
        np.testing.assert_array_equal(region.mask(), ids == region.source_id)


def test_semantic(write, data, ids) -> None:
    """Each pixel has the index of its category, and 255 where no segment is."""
    folder = write("pngs/nine.png", colours(ids)).parent
    file = PanopticFile.open(write("x.json", data), folder)
    labels = file.semantic(file.images[0])
    assert labels.dtype == np.uint8
    assert file.ignore_index == 255
    np.testing.assert_array_equal(labels, [[255, 1, 1, 1, 1, 1]] * 2 + [[255, 1, 1, 0, 0, 0]] * 2)


def test_many_categories(write, data, ids) -> None:
    """With more than 255 categories labels have 16 bits, and void is 65535."""
    data["categories"] += [{"id": 1_000 + i, "name": str(i)} for i in range(300)]
    data["annotations"][0]["segments_info"][0]["category_id"] = 1_299
    write("x/nine.png", colours(ids))
    file = PanopticFile.open(write("x.json", data))
    labels = file.semantic(file.images[0])
    assert labels.dtype == np.uint16
    assert file.ignore_index == 65_535
    assert labels[3].tolist() == [65_535, 1, 1, 301, 301, 301]


def test_as_boxes_and_masks(write, data, ids) -> None:
    """A panoptic file can be opened like any other, and is matched by the names of the images."""
    write("x/nine.png", colours(ids))
    path, picture = write("x.json", data), Picture("nine.jpg", (4, 6))
    masks, boxes = open_masks(path), open_boxes(path)
    assert [region.mask().sum() for region in masks.regions(picture)] == [6, 8, 6]
    assert [region.rle for region in boxes.regions(picture)] == [None] * 3
    assert boxes.class_names == ("grass", "dog")
    assert boxes.image_id(picture) == 9


def test_real_files(shared_data: Path) -> None:
    """Areas and boxes are those that COCO wrote, and the label maps those of the data."""
    folder = shared_data / "coco_panoptic_100"
    file = PanopticFile.open(folder / "panoptic.json")
    rows = json.loads(file.path.read_text())["annotations"]
    listed = {row["image_id"]: row for row in rows}
    for image in file.images[::5]:
        segments, labels = file.segments(image), file.semantic(image)
        back = np.full(image.size, file.ignore_index)
        for segment, row in zip(segments, listed[image.id]["segments_info"], strict=True):
            x0, y0, x1, y1 = segment.region.box
            assert [x0, y0, x1 - x0, y1 - y0] == row["bbox"]
            mask = segment.region.mask()
            assert mask.sum() == row["area"]
            back[mask] = segment.region.category
        np.testing.assert_array_equal(back, labels)


def test_pngs_of_another_size(write, data, ids) -> None:
    """Both files are named."""
    write("x/nine.png", colours(ids[:, :5]))
    file = PanopticFile.open(write("x.json", data))
    with pytest.raises(AnnotationError, match=r"nine.png: .* 5 x 4 pixels, .*x.json says 6 x 4"):
        file.segments(file.images[0])


@pytest.mark.parametrize("method", ["segments", "semantic"])
@pytest.mark.parametrize(
    ("pixel", "message"),
    [
        (77, r"image 9 \(\"nine.jpg\"\) has no segment 77, which is drawn in .*nine.png: add it"),
        (0, r"image 9 \(\"nine.jpg\"\) has the segment 70000, which is not drawn in .*nine.png"),
    ],
)
def test_segments_of_one_file_only(pixel: int, message: str, method: str, write, data, ids) -> None:
    """A number in the PNG but not in the JSON, or the other way round, is named."""
    ids[2:, 3:] = pixel
    write("x/nine.png", colours(ids))
    file = PanopticFile.open(write("x.json", data))
    with pytest.raises(AnnotationError, match=message):
        getattr(file, method)(file.images[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "nine.png does not exist, expected the panoptic PNG of image 9"),
        (b"", "nine.png is empty"),
        (b"no picture", "nine.png is no PNG"),
        (b"\x89PNG\r\n\x1a\n cut off", "nine.png is (no PNG|damaged)"),
        (np.zeros((4, 6), np.uint8), "nine.png: the PNG is of mode L, expected colours"),
    ],
)
def test_bad_pngs(content: Any, message: str, write, data) -> None:
    """Each is one sentence that names the PNG."""
    write("x/other.png", b"")
    if content is not None:
        write("x/nine.png", content)
    file = PanopticFile.open(write("x.json", data))
    with pytest.raises(InputError, match=message):
        file.segments(file.images[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_name": None}, 'annotation of image 9 has no "file_name"'),
        ({"file_name": 3}, "annotation of image 9 has a file_name that is no text"),
        ({"image_id": 8}, "annotation of image 8 has the image_id 8, which is not in"),
        ({"segments_info": 3}, 'annotation of image 9 has "segments_info" that is no list'),
        ({"segments_info": [3]}, "image 9, segment number 1 is 3, expected a table"),
        ({"segments_info": [{"id": 5}]}, 'image 9, segment 5 has no "category_id"'),
        (
            {"segments_info": [{"id": 5, "category_id": 2}]},
            "image 9, segment 5 has the category_id 2, which is not in",
        ),
        (
            {"segments_info": [{"id": 5, "category_id": 1}] * 2},
            "image 9, segment 5 is listed twice or not from 1 to 16,777,215",
        ),
        ({"segments_info": [{"id": 0, "category_id": 1}]}, "image 9, segment 0 is listed twice or"),
    ],
)
def test_bad_entries(change: dict[str, Any], message: str, write, data) -> None:
    """Each is one sentence that names the file and the entry."""
    write("x/nine.png", b"")
    data["annotations"][0] |= change
    path = write("x.json", data)
    with pytest.raises(AnnotationError, match=f"{path}: {message}"):
        PanopticFile.open(path)


def test_bad_lists(write, data) -> None:
    """Images without or with two annotations, and a missing folder, are named."""
    path = write("x.json", data)
    with pytest.raises(AnnotationError, match=r"x.json: the folder of its PNGs, .*x, does not ex"):
        PanopticFile.open(path)
    write("x/nine.png", b"")
    data["annotations"] *= 2
    with pytest.raises(AnnotationError, match="annotation of image 9 is listed twice"):
        PanopticFile.open(write("x.json", data))
    data["annotations"] = []
    with pytest.raises(AnnotationError, match=r"image 9 .* has no annotation: add it or remove"):
        PanopticFile.open(write("x.json", data))

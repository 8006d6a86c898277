"""COCO's instances: what is read, and what is refused."""

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from atas_deploy.core.errors import AnnotationError, InputError
from atas_deploy.media.annotations import CocoFile, Picture, open_boxes, open_masks
from atas_deploy.media.formats import write_coco_dataset

ONE, TWO = Picture("a/one.jpg", (4, 6)), Picture("two.jpg", (5, 5))


def test_boxes(write, coco) -> None:
    """Boxes come in the order of the file, with class, number and crowd, and without masks."""
    file = open_boxes(write("x.json", coco))
    regions = file.regions(ONE)
    assert file.class_names == ("dog", "grass")
    assert [region.box for region in regions] == [(1, 1, 3.5, 3), (2, 1, 5, 3), (0, 0, 1, 4)]
    assert [region.category for region in regions] == [0, 1, 0]
    assert [region.source_id for region in regions] == [1, 2, 3]
    assert [region.crowd for region in regions] == [False, False, True]
    assert all(region.rle is None and region.score is None for region in regions)
    assert (file.image_id(ONE), file.image_id(TWO)) == (7, 9)


def test_masks(write, coco) -> None:
    """Polygons and uncompressed run lengths become masks with the tightest boxes."""
    del coco["annotations"][0]
    polygon, crowd = open_masks(write("x.json", coco)).regions(ONE)
    expected = np.zeros((4, 6), bool)
    expected[1:3, 2:5] = True
    np.testing.assert_array_equal(polygon.mask(), expected)
    assert polygon.box == (2, 1, 5, 3)
    assert crowd.box == (0, 0, 1, 4)
    assert crowd.crowd
    assert crowd.mask()[:, 0].all()
    assert crowd.mask().sum() == 4


def test_data_set(write, coco) -> None:
    """A data set gives images and categories in order, and each box with its mask, if any."""
    file = CocoFile.open(write("x.json", coco))
    assert [(image.id, image.file_name, image.size) for image in file.images] == [
        (7, "a/one.jpg", (4, 6)),
        (9, "two.jpg", (5, 5)),
    ]
    assert [(c.id, c.name, c.thing) for c in file.categories] == [
        (18, "dog", True),
        (3, "grass", False),
    ]
    box, polygon, _ = file.regions(file.images[0])
    assert box.rle is None
    assert polygon.mask().sum() == 6
    assert file.regions(file.images[1]) == []


def test_boxes_of_masks_without_boxes(write, coco) -> None:
    """Where there is no bbox, the box is that of the mask."""
    del coco["annotations"][1]["bbox"], coco["annotations"][2]["bbox"]
    regions = open_boxes(write("x.json", coco)).regions(ONE)
    assert [region.box for region in regions[1:]] == [(2, 1, 5, 3), (0, 0, 1, 4)]
    assert all(region.rle is None for region in regions)


def test_boxes_are_clipped(write, coco) -> None:
    """What reaches outside of the picture is cut off."""
    coco["annotations"][0]["bbox"] = [-3, 2, 20, 9.5]
    assert open_boxes(write("x.json", coco)).regions(ONE)[0].box == (0, 2, 6, 4)


def test_what_a_run_writes_comes_back(tmp_path: Path, items, maps, names) -> None:
    """The masks, boxes, classes and scores of `write_coco_dataset` are read as written."""
    write_coco_dataset(tmp_path / "coco.json", items(), names)
    file = open_masks(tmp_path / "coco.json")
    assert file.class_names == tuple(names)
    for name, labels in maps.items():
        back = np.zeros_like(labels)
        for region in file.regions(Picture(f"photos/{name}.jpg", labels.shape)):
            assert region.category is not None
            assert region.score == (region.category + 1) / 8
            back[region.mask()] = region.category + 1
        np.testing.assert_array_equal(back, labels)
    assert file.unmatched() == []


def test_masks_are_those_of_pycocotools(write, coco) -> None:
    """Each annotation decodes as `COCO.annToMask` has it."""
    coco["annotations"][1]["segmentation"] = [[0.5, 0.4, 5.1, 1.7, 3.3, 3.9], [0, 2, 2, 2, 2, 4]]
    del coco["annotations"][0]
    path = write("x.json", coco)
    truth = COCO(path)
    for region in open_masks(path).regions(ONE):
        expected = truth.annToMask(truth.anns[region.source_id])
        np.testing.assert_array_equal(region.mask(), expected)


def test_pictures_of_the_file_that_are_not_given(write, coco) -> None:
    """They are listed."""
    file = open_boxes(write("x.json", coco))
    file.regions(ONE)
    assert file.unmatched() == ["two.jpg"]


def test_names_that_seem_to_differ(write, coco) -> None:
    """Pictures without entries and entries without pictures are told in one sentence."""
    file = open_boxes(write("x.json", coco))
    file.regions(ONE)
    assert file.mismatch() is None
    assert file.regions(Picture("three.jpg", (4, 6))) == []
    message = str(file.mismatch())
    assert "nothing for 1 input, but regions for 1 other picture (two.jpg): correct" in message
    file.regions(TWO)
    assert file.mismatch() is None


def test_frames_without_regions_are_no_mismatch(write, coco) -> None:
    """A video matches if any of its frames does."""
    coco["images"][0]["file_name"] = "clip/000001.png"
    file = open_boxes(write("x.json", coco))
    for frame in range(2):
        file.regions(Picture("clip.mp4", (4, 6), frame))
    assert file.mismatch() is None
    file.regions(Picture("other.mp4", (4, 6), 0))
    assert "nothing for 1 input" in str(file.mismatch())


def change(data: Any, path: str, value: Any) -> None:
    """Set what lies at a path such as "annotations/0/bbox"; None removes it."""
    *parts, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in parts:
        data = data[part]
    if value is None:
        del data[last]
    else:
        data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("annotations/0/bbox", [1, 1, -2, 2], "annotation 1 has a box -2 wide and 2 high"),
        ("annotations/0/bbox", [1, float("nan"), 2, 2], "annotation 1 has the bbox nan, expected"),
        ("annotations/0/bbox", [10**400, 1, 2, 2], "annotation 1 has the bbox 1000.*, expected"),
        ("annotations/0/bbox", [1, "1", 2, 2], "annotation 1 has the bbox '1', expected a number"),
        ("annotations/0/bbox", [1, 1, 2], r"annotation 1 has the bbox \[1, 1, 2\], expected \["),
        ("annotations/0/bbox", None, 'annotation 1 has neither "bbox" nor "segmentation"'),
        ("annotations/0/id", None, 'annotation number 1 has no "id"'),
        ("annotations/0/id", 2, "annotation 2 is listed twice"),
        ("annotations/0/id", "a", "annotation number 1 has the id 'a', expected a whole number"),
        ("annotations/0/image_id", 8, "annotation 1 has the image_id 8, which is not in"),
        ("annotations/0/image_id", None, 'annotation 1 has no "image_id"'),
        ("annotations/0/category_id", 1, "annotation 1 has the category_id 1, which is not in"),
        ("annotations/0/category_id", None, 'annotation 1 has no "category_id"'),
        ("annotations/0/score", 87, "annotation 1 has the score 87, expected one from 0 to 1"),
        ("annotations/0", [1], r"annotation number 1 is \[1\], expected a table"),
        ("annotations", {}, 'has no list "annotations"'),
        ("images", None, 'has no list "images"'),
        ("images/0/id", 9, "image 9 is listed twice"),
        ("images/0/file_name", "two.jpg", 'the picture "two.jpg" is listed twice'),
        ("images/0/file_name", "", "image 7 has the file_name '', expected text"),
        ("images/0/height", None, 'image 7 has no "height"'),
        ("images/0/width", 0, "image 7 is 0 x 4 pixels, expected sizes above 0"),
        ("images/0/width", 10**9, "image 7 is 1000000000 x 4 pixels, .* 178,000,000 pixels"),
        ("images/0/width", 7, 'image 7 .* is 7 x 4 pixels, while a/one.jpg is 6 x 4'),
        ("categories", None, 'has no list "categories"'),
        ("categories/0/id", 3, "category 3 is listed twice"),
        ("categories/0/name", None, 'category 18 has no "name"'),
        ("categories/0/name", 5, "category 18 has the name 5, expected text"),
    ],
)  # fmt: skip
def test_bad_entries(path: str, value: Any, message: str, write, coco) -> None:
    """Each is one sentence that names the file and the entry."""
    change(coco, path, value)
    file = write("x.json", coco)
    with pytest.raises(AnnotationError, match=f"{file}:? {message}"):
        open_boxes(file).regions(ONE)


def test_masks_of_a_file_of_boxes(write, coco) -> None:
    """A file without any mask is refused."""
    coco["annotations"] = coco["annotations"][:1]
    path = write("x.json", coco)
    with pytest.raises(AnnotationError, match=f'{path} has no "segmentation" at all, expected'):
        open_masks(path)


@pytest.mark.parametrize("segmentation", [None, [], [[]]])
def test_boxes_among_masks(segmentation: Any, write, coco) -> None:
    """A box without a mask is left out and told; the masks of the picture are read."""
    coco["annotations"][0]["segmentation"] = segmentation
    file = open_masks(write("x.json", coco))
    assert [region.source_id for region in file.regions(ONE)] == [2, 3]
    (sentence,) = file.faults.sentences
    assert f"{file.path}: annotation 1 has no mask, so it was left out: add one, or" in sentence


@pytest.mark.parametrize(
    ("bbox", "message"),
    [
        ([1, 1, 2, 0], "has a box 2 wide and 0 high, so it was left out: correct or remove it"),
        ([6, 1, 2, 2], r"has the box \(6, 1\) to \(8, 3\), which lies outside of the picture of 6"),
        ([-2, 1, 2, 2], r"has the box \(-2, 1\) to \(0, 3\), which lies outside"),
    ],
)
def test_boxes_of_which_nothing_can_be_seen(bbox: Any, message: str, write, coco) -> None:
    """They are left out and told once, and the others of the picture are read."""
    coco["annotations"][0]["bbox"] = bbox
    file = open_boxes(write("x.json", coco))
    for _ in range(2):
        assert [region.source_id for region in file.regions(ONE)] == [2, 3]
    (sentence,) = file.faults.sentences
    assert re.match(f"{file.path}: annotation 1 {message}", sentence)
    assert file.faults.count == 1


def test_boxes_do_not_matter_for_masks(write, coco) -> None:
    """COCO train2017 has a mask whose box has no height."""
    coco["annotations"][1]["bbox"] = [296.65, 388.33, 1.03, 0.0]
    coco["annotations"][2]["bbox"] = "damaged"
    file = open_masks(write("x.json", coco))
    assert [region.source_id for region in file.regions(ONE)] == [2, 3]


def test_a_polygon_outside_becomes_no_pixel(write, coco) -> None:
    """Not even if the box around it reaches into the picture."""
    coco["annotations"][1]["segmentation"] = [[-5, 3, 3, 7, -5, 7]]
    file = open_masks(write("x.json", coco))
    assert [region.source_id for region in file.regions(ONE)] == [3]
    assert any("annotation 2 has polygons that lie outside" in s for s in file.faults.sentences)


def test_data_set_leaves_out_what_cannot_be_seen(write, coco) -> None:
    """An evaluation goes on without it."""
    coco["annotations"][0]["bbox"] = [1, 1, 2, 0]
    file = CocoFile.open(write("x.json", coco))
    assert [region.source_id for region in file.regions(file.images[0])] == [2, 3]
    assert file.faults.count == 1


def test_faults_need_little_room(write, coco) -> None:
    """The first 100 are told, all are counted."""
    coco["annotations"] = [
        {"id": i, "image_id": 7, "category_id": 18, "bbox": [1, 1, 0, 1]} for i in range(150)
    ]
    file = open_boxes(write("x.json", coco))
    assert file.regions(ONE) == []
    assert (len(file.faults.sentences), file.faults.count) == (100, 150)


def test_numbers_as_other_tools_write_them(write, coco) -> None:
    """3.0 and "3" are 3; sizes, too."""
    coco["images"][0] |= {"id": "7", "height": 4.0, "width": 6.0}
    coco["categories"][0]["id"] = 18.0
    coco["annotations"][0] |= {"id": "1", "image_id": 7.0, "category_id": "18"}
    file = open_boxes(write("x.json", coco))
    assert [region.source_id for region in file.regions(ONE)] == [1, 2, 3]
    assert file.regions(ONE)[0].category == 0


def test_addresses_instead_of_names(write, coco) -> None:
    """LVIS has no file names; the address ends in the folder and the name."""
    del coco["images"][0]["file_name"]
    coco["images"][0]["coco_url"] = "http://images.example.org/val2017/000000000139.jpg"
    file = CocoFile.open(write("x.json", coco))
    assert file.images[0].file_name == "val2017/000000000139.jpg"
    assert len(open_boxes(file.path).regions(Picture("coco/val2017/000000000139.jpg", (4, 6)))) == 3


def test_annotations_need_little_room(write, coco) -> None:
    """Under 500 bytes for each box, with the polygons beside it dropped."""
    row = {"image_id": 7, "category_id": 18, "area": 100.5, "iscrowd": 0}
    polygon = [[float(i) for i in range(60)]]
    coco["annotations"] = [
        {"id": 1000 + i, **row, "bbox": [10.5, 20.25, 30.75, 40.5], "segmentation": polygon}
        for i in range(3000)
    ]
    path = write("x.json", coco)
    tracemalloc.start()
    file = open_boxes(path)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert file.class_names
    assert kept < 3000 * 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("   \n", "is no JSON"),
        ("dog 1 2 3", "is no JSON"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8 text"),
        ('{"a": "\x00"}', "is a binary file"),
        ('{"images": [}', r"is not valid JSON \(.*\), .*: correct line 1, column 13"),
        ("[" * 100_000, "is no JSON of annotations|is cut off"),
        ("[" + "1" * 5_000 + "]", "is no JSON of annotations"),
        ("3", "is JSON, but has no list"),
        ('{"shapes": []}', 'is JSON, but has no list "annotations" and is no list of results'),
        ("[3]", "result number 1 is 3, expected a table"),
    ],
)
def test_bad_files(content: Any, message: str, write) -> None:
    """Each is one sentence that names the file."""
    path = write("x.json", content)
    with pytest.raises(InputError, match=f"{path}:? ({message})"):
        open_boxes(path)


def test_truncated_json(write, coco) -> None:
    """Wherever a file is cut off, it is told, not read in part."""
    text = json.dumps(coco, indent=1)
    for end in range(1, len(text) - 1, 7):
        with pytest.raises(AnnotationError, match=r"is cut off in line|is not valid JSON"):
            open_boxes(write("x.json", text[:end]))


def test_missing_file(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(InputError, match=r"none.json cannot be read \(No such file"):
        open_boxes(tmp_path / "none.json")

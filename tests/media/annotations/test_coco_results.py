"""COCO's results: boxes and masks with scores, by number or through the data set beside."""

from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations import Picture, open_boxes, open_masks
from atas_deploy.media.formats import write_coco_dataset, write_coco_results

ROWS = [
    {"image_id": 139, "category_id": 18, "bbox": [1, 1, 2, 2], "score": 0.5},
    {"image_id": 139, "category_id": 3, "bbox": [0, 0, 6, 4], "score": 0},
    {"image_id": 7, "category_id": 3, "bbox": [0, 0, 6, 4], "score": 1},
]
PICTURE = Picture("val/000000000139.jpg", (4, 6))


def test_by_the_number_in_the_name(write) -> None:
    """000000000139.jpg is image 139."""
    file = open_boxes(write("found.json", ROWS))
    regions = file.regions(PICTURE)
    assert [region.box for region in regions] == [(1, 1, 3, 3), (0, 0, 6, 4)]
    assert [region.score for region in regions] == [0.5, 0]
    assert file.class_names is None
    assert regions[0].category is None
    assert file.image_id(PICTURE) == 139
    assert file.unmatched() == ["image_id 7"]


def test_numbers_of_results(write) -> None:
    """A result may have an id, which is kept."""
    file = open_boxes(write("found.json", [ROWS[0] | {"id": 33}, ROWS[1]]))
    assert [region.source_id for region in file.regions(PICTURE)] == [33, None]


def test_frames_of_a_video_by_their_numbers(write) -> None:
    """Frame 7 of a video is image 7."""
    file = open_boxes(write("found.json", ROWS))
    assert len(file.regions(Picture("clip.mp4", (4, 6), frame=7))) == 1


def test_a_name_that_is_no_number(write) -> None:
    """It cannot be matched, which is told rather than taken for a picture without regions."""
    file = open_boxes(write("found.json", ROWS))
    with pytest.raises(AnnotationError, match=r"by image_id only, and the name of dog.jpg is"):
        file.regions(Picture("dog.jpg", (4, 6)))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_through_the_data_set_beside(tmp_path: Path, items, maps, names, suffix: str) -> None:
    """What a run writes comes back by name: masks, classes and scores."""
    write_coco_dataset(tmp_path / "coco.json", items(suffix=suffix), names)
    write_coco_results(tmp_path / "coco_results.json", items(suffix=suffix))
    file = open_masks(tmp_path / "coco_results.json")
    assert file.class_names == tuple(names)
    for name, labels in maps.items():
        back = np.zeros_like(labels)
        for region in file.regions(Picture(name + suffix, labels.shape)):
            assert region.category is not None
            assert region.score == (region.category + 1) / 8
            back[region.mask()] = region.category + 1
        np.testing.assert_array_equal(back, labels)


def test_alone_by_the_numbers_that_a_run_gives(tmp_path: Path, items, maps) -> None:
    """Without the data set, pictures with numbers as names are found by `image_ids`."""
    renamed = {"000000000139": maps["blobs"], "000000000025": maps["sub/noise.2"]}
    write_coco_results(tmp_path / "coco_results.json", items(renamed))
    file = open_masks(tmp_path / "coco_results.json")
    for name, labels in renamed.items():
        regions = file.regions(Picture(f"{name}.jpg", labels.shape))
        assert sum(int(region.mask().sum()) for region in regions) == (labels > 0).sum()
    assert file.unmatched() == []


def test_an_empty_list(write) -> None:
    """Nothing was found: no regions, no error."""
    assert open_boxes(write("found.json", [])).regions(PICTURE) == []


def test_two_pictures_of_a_number(write) -> None:
    """139.jpg and 000000000139.jpg are not told apart."""
    file = open_boxes(write("found.json", ROWS))
    file.regions(PICTURE)
    with pytest.raises(AnnotationError, match=r'"image_id 139" may be .*139.jpg or 139.jpg'):
        file.regions(Picture("139.jpg", (4, 6)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score": float("nan")}, "result number 1 has the score nan, expected a number"),
        ({"score": "high"}, "result number 1 has the score 'high', expected a number"),
        ({"bbox": [1, 1, -1, 2]}, "result number 1 has a box -1 wide and 2 high"),
        ({"bbox": None}, 'result number 1 has neither "bbox" nor "segmentation"'),
        ({"image_id": "a139"}, "result number 1 has the image_id 'a139', expected a whole"),
        ({"image_id": None}, 'result number 1 has no "image_id"'),
        ({"category_id": None}, 'result number 1 has no "category_id"'),
    ],
)
def test_bad_entries(changed: dict, message: str, write) -> None:
    """Each is one sentence that names the file and the entry."""
    path = write("found.json", [ROWS[0] | changed, *ROWS[1:]])
    with pytest.raises(AnnotationError, match=f"{path}: {message}"):
        open_boxes(path).regions(PICTURE)


def test_unknown_numbers_beside_a_data_set(write, coco) -> None:
    """Images and categories must be those of the data set."""
    write("x.json", coco)
    path = write("x_results.json", ROWS)
    with pytest.raises(AnnotationError, match=f"{path}: result number 1 has the image_id 139"):
        open_boxes(path)
    with pytest.raises(AnnotationError, match="result number 1 has the category_id 4"):
        open_boxes(write("x_results.json", [ROWS[0] | {"category_id": 4, "image_id": 7}]))


def test_results_of_which_nothing_can_be_seen(write) -> None:
    """They are left out and told by their place."""
    file = open_boxes(write("found.json", [ROWS[0] | {"bbox": [1, 1, 0, 2]}, *ROWS[1:]]))
    assert len(file.regions(PICTURE)) == 1
    (sentence,) = file.faults.sentences
    assert "result number 1 has a box 0 wide and 2 high, so it was left out" in sentence

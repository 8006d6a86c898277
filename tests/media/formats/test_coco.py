"""Tests of COCO files, read by pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atas_deploy.media.formats import Labelled, write_coco_dataset, write_coco_results
from atas_deploy.media.formats.coco import image_ids


def numbers(*images: str) -> list[int]:
    """Number images with these file names."""
    made = (Labelled(name, name, 1, 1, lambda: np.zeros((1, 1), np.uint8), []) for name in images)
    return [number for number, _ in image_ids(made)]


def test_masks_come_back(tmp_path: Path, items, maps, names) -> None:
    """COCO loads the data set, and each annotation decodes to exactly the pixels of its class."""
    write_coco_dataset(tmp_path / "coco.json", items(), names)
    coco = COCO(tmp_path / "coco.json")
    assert [coco.cats[i]["name"] for i in (1, 2, 3, 4)] == names
    images = {image["file_name"].removesuffix(".jpg"): image for image in coco.dataset["images"]}
    assert list(images) == list(maps)
    for name, labels in maps.items():
        assert (images[name]["height"], images[name]["width"]) == labels.shape
        back = np.zeros_like(labels)
        for annotation in coco.loadAnns(coco.getAnnIds(images[name]["id"])):
            mask = coco.annToMask(annotation) > 0
            assert annotation["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            left, top, width, height = annotation["bbox"]
            assert (left, left + width) == (columns.min(), columns.max() + 1)
            assert (top, top + height) == (rows.min(), rows.max() + 1)
            back[mask] = annotation["category_id"]
        np.testing.assert_array_equal(back, labels)


def test_results_score_full_marks_against_their_own_data_set(
    tmp_path: Path, items, maps, names, capsys: pytest.CaptureFixture[str]
) -> None:
    """COCOeval finds the results equal to the data set: ids agree, areas are those of masks."""
    write_coco_dataset(tmp_path / "coco.json", items(), names)
    write_coco_results(tmp_path / "results.json", items())
    truth = COCO(tmp_path / "coco.json")
    found = truth.loadRes(str(tmp_path / "results.json"))
    areas = {(a["image_id"], a["category_id"]): a["area"] for a in truth.dataset["annotations"]}
    assert {(a["image_id"], a["category_id"]): a["area"] for a in found.anns.values()} == areas
    evaluation = COCOeval(truth, found, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert "Average Precision" in capsys.readouterr().out


def test_scores_are_kept(tmp_path: Path, items) -> None:
    """A result has the score of its class in the image."""
    write_coco_results(tmp_path / "results.json", items())
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {(row["category_id"], row["score"]) for row in rows} == {
        (1, 1 / 8),
        (2, 2 / 8),
        (3, 3 / 8),
    }
    assert all(set(row) == {"image_id", "category_id", "segmentation", "score"} for row in rows)


@pytest.mark.parametrize(
    ("images", "ids"),
    [
        (("b.jpg", "a.jpg"), [1, 2]),
        (("000000397133.jpg", "000000000139.jpg"), [397133, 139]),
        (("0.png", "1.png", "2.png"), [0, 1, 2]),
        (("a/7.jpg", "b/7.jpg", "x.jpg"), [7, 1, 2]),
        (("x.jpg", "1.jpg", "2.jpg", "y.jpg"), [1, 2, 3, 4]),
        (("2.jpg", "x.jpg", "y.jpg", "z.jpg", "2.png"), [2, 1, 3, 4, 5]),
        (("9" * 40 + ".jpg", "٣.jpg", "-1.jpg"), [1, 2, 3]),
    ],
)
def test_numbers_of_images(images: tuple[str, ...], ids: list[int]) -> None:
    """Names that are free numbers are kept, others counted, and no number is given twice."""
    assert numbers(*images) == ids


def test_nothing_found_is_a_valid_file(tmp_path: Path) -> None:
    """Without images both files are empty, and load."""
    write_coco_dataset(tmp_path / "coco.json", [], [])
    write_coco_results(tmp_path / "results.json", [])
    assert COCO(tmp_path / "coco.json").dataset["images"] == []
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_odd_names(tmp_path: Path, items, maps) -> None:
    """Control characters, quotes, 5,000 characters and bytes that are no UTF-8 come back."""
    odd = ['a"\\\n\x00', "犬😀", "x" * 5_000]
    renamed = {"\udcff": maps["blobs"]}
    write_coco_dataset(tmp_path / "coco.json", items(renamed, odd), odd)
    coco = COCO(tmp_path / "coco.json")
    assert [category["name"] for category in coco.dataset["categories"]] == odd
    assert coco.dataset["images"][0]["file_name"] == "\udcff.jpg"

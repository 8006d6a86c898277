"""Boxes that are given."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.core.errors import AnnotationError
from atas_deploy.training.proposals import open_proposals

NAMES = ["photos/one.jpg", "photos/two.jpg", "photos/three.jpg"]
INSTANCES = {
    "images": [
        {"id": 7, "file_name": "one.jpg", "height": 40, "width": 60},
        {"id": 9, "file_name": "two.jpg", "height": 50, "width": 50},
    ],
    "categories": [{"id": 1, "name": "thing"}],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 1, "bbox": [10, 20, 30, 8]},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 12.5, 10]},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [40, 30, 50, 50]},
        {"id": 4, "image_id": 7, "category_id": 1, "bbox": [5, 5, 7, 9]},
    ],
}


def write(path: Path, content: Any) -> Path:
    """Write JSON."""
    path.write_text(json.dumps(content))
    return path


def test_boxes_go_to_their_images_by_name(tmp_path: Path) -> None:
    """Each image gets its boxes as corners, in the order of the file; small ones are left out."""
    proposals = open_proposals(write(tmp_path / "p.json", INSTANCES), NAMES)
    assert proposals.of(0, (40, 60)).tolist() == [[0, 0, 12.5, 10], [40, 30, 60, 40]]
    assert proposals.of(1, (50, 50)).tolist() == [[10, 20, 40, 28]]
    assert proposals.of(2, (30, 30)).shape == (0, 4)


def test_results_know_images_by_number(tmp_path: Path) -> None:
    """A bare list of results belongs to images named by numbers; boxes are cut at the edge."""
    rows = [
        {"image_id": 12, "category_id": 1, "bbox": [-4, 2, 20, 20], "score": 0.9},
        {"image_id": 12, "category_id": 1, "bbox": [8, 8, 100, 100], "score": 0.4},
        {"image_id": 12, "category_id": 1, "bbox": [70, 8, 10, 10], "score": 0.4},
    ]
    path = write(tmp_path / "found.json", rows)
    proposals = open_proposals(path, ["a/000011.jpg", "a/000012.jpg"])
    assert proposals.of(1, (30, 40)).tolist() == [[0, 2, 16, 22], [8, 8, 40, 30]]
    assert proposals.of(0, (30, 40)).shape == (0, 4)


def test_images_in_tar_files_have_boxes(tmp_path: Path) -> None:
    """A member of a tar file is known by its own name, as the loader's sources write it."""
    path = write(tmp_path / "p.json", INSTANCES)
    proposals = open_proposals(path, ["shards/00.tar:two.jpg", "shards/01.tar:x/one.jpg"])
    assert proposals.of(0, (50, 50)).tolist() == [[10, 20, 40, 28]]
    assert len(proposals.of(1, (40, 60))) == 2


def test_results_beside_their_data_set(tmp_path: Path) -> None:
    """Results know images by name if the data set lies beside them."""
    write(tmp_path / "set.json", INSTANCES)
    rows = [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 10], "score": 0.9}]
    proposals = open_proposals(write(tmp_path / "set_results.json", rows), NAMES)
    assert proposals.of(0, (40, 60)).tolist() == [[1, 2, 11, 12]]


def test_a_tiny_picture_keeps_a_box_of_all_of_it(tmp_path: Path) -> None:
    """The least area is no more than the picture has."""
    rows = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1}]
    proposals = open_proposals(write(tmp_path / "found.json", rows), ["1.png"])
    assert proposals.of(0, (5, 5)).tolist() == [[0, 0, 5, 5]]


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    """Boxes made for another version of a picture would lie elsewhere in it."""
    proposals = open_proposals(write(tmp_path / "p.json", INSTANCES), NAMES)
    with pytest.raises(AnnotationError, match=r"one\.jpg is 60 x 40 pixels there, but 30 x 20"):
        proposals.of(0, (20, 30))


def test_no_image_has_a_box(tmp_path: Path) -> None:
    """A file for other images is refused with names of both sides."""
    path = write(tmp_path / "p.json", INSTANCES)
    with pytest.raises(
        AnnotationError, match=r"no box for any of the 1 images: it has one\.jpg.*is b/four\.jpg"
    ):
        open_proposals(path, ["b/four.jpg"])


def test_other_formats_are_refused(tmp_path: Path) -> None:
    """Proposals are COCO JSON."""
    path = tmp_path / "boxes.csv"
    path.write_text("image,x0,y0,x1,y1\n")
    with pytest.raises(AnnotationError, match="COCO JSON"):
        open_proposals(path, NAMES)


def test_proposals_go_to_worker_processes(tmp_path: Path) -> None:
    """A pickled copy gives the same boxes."""
    proposals = open_proposals(write(tmp_path / "p.json", INSTANCES), NAMES)
    copy = pickle.loads(pickle.dumps(proposals))
    np.testing.assert_array_equal(copy.of(0, (40, 60)), proposals.of(0, (40, 60)))

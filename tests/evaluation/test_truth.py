"""Label maps of COCO panoptic files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.classes import parse_classes
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.evaluation.truth import VOID, PanopticTruth, check_count, plain_name
from atas_deploy.media.annotations import PanopticFile

CATEGORIES = [("person", True), ("wall-other-merged", False), ("tree-merged", False)]


@pytest.fixture
def truth(write_panoptic: Callable[..., Path], tmp_path: Path) -> PanopticTruth:
    """Two pictures of three categories, the second one mostly without segment."""
    pictures = {
        "a": (np.array([[7, 7, 300]]), [(7, 1, False), (300, 0, True)]),
        "b": (np.array([[9, 0, 0]]), [(9, 2, False)]),
    }
    file = write_panoptic(tmp_path, CATEGORIES, pictures)
    return PanopticTruth(PanopticFile.open(file), tmp_path / "images")


def test_panoptic_categories_are_classes(truth: PanopticTruth) -> None:
    """In the order of the file, by the pixels of their segments, also of crowds; else void."""
    assert truth.class_names == ("person", "wall", "tree")
    a, b = (example.labels((1, 3), classes=3) for example in truth)
    np.testing.assert_array_equal(a, [[2, 2, 1]])
    np.testing.assert_array_equal(b, [[3, VOID, VOID]])


def test_pictures_that_are_not_there_are_left_out(truth: PanopticTruth, tmp_path: Path) -> None:
    """And counted; the limit takes the first of those that are there."""
    file, images = PanopticFile.open(tmp_path / "panoptic.json"), tmp_path / "images"
    assert [e.name for e in PanopticTruth(file, images, limit=1)] == ["a.png"]
    (images / "a.png").unlink()
    found = PanopticTruth(file, images, limit=1)
    assert [example.name for example in found] == ["b.png"]
    assert (len(found), found.facts()["images_missing"]) == (1, 1)
    (images / "b.png").unlink()
    with pytest.raises(InputError, match=r"None of the 2 pictures of .*panoptic\.json is in"):
        PanopticTruth(file, images)


def test_names_of_panoptic_pictures(truth: PanopticTruth, tmp_path: Path) -> None:
    """With or without suffix, in the order of the list; others are refused."""
    file, images = PanopticFile.open(tmp_path / "panoptic.json"), tmp_path / "images"
    names = tmp_path / "names.txt"
    names.write_text("b\na.png\nb.png\n")
    assert [e.name for e in PanopticTruth(file, images, names=names)] == ["b.png", "a.png"]
    names.write_text("c\n")
    with pytest.raises(InputError, match=r'names\.txt names "c", which is not in .*panoptic\.json'):
        PanopticTruth(file, images, names=names)


def test_panoptic_needs_a_class_for_each_category(truth: PanopticTruth) -> None:
    """Another list must be as long."""
    check_count(truth, 3)
    with pytest.raises(ConfigError, match="Got 2 classes for data with 3 categories"):
        check_count(truth, 2)


def test_plain_names() -> None:
    """As the built-in list has them."""
    names = ["wall-other-merged", "playingfield", "light", "water-other", "dining table"]
    assert [plain_name(name) for name in names] == [
        "wall",
        "playing field",
        "light",
        "water",
        "dining table",
    ]


def test_coco_names_are_those_of_the_built_in_list(shared_data: Path) -> None:
    """All 133, in the same order."""
    folder = shared_data / "coco_panoptic_100"
    truth = PanopticTruth(PanopticFile.open(folder / "panoptic.json"), folder / "images")
    assert truth.class_names == tuple(spec.name for spec in parse_classes("@coco-panoptic"))

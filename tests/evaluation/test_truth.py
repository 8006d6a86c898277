"""Label maps of COCO panoptic files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.classes import parse_classes
from atas_deploy.core.errors import ConfigError
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

"""Segmentation results."""

import json
import subprocess
import sys

import numpy as np
import pytest

from atas_deploy.core.errors import BackendUnavailableError, ConfigError
from atas_deploy.core.results import Segmentation


@pytest.fixture
def result() -> Segmentation:
    """Two classes, one absent."""
    labels = np.array([[0, 1], [1, 1]], np.uint8)
    return Segmentation(labels, ("dog", "grass"), np.array([0.5, 0], np.float32))


def test_areas_and_mask(result: Segmentation) -> None:
    """Areas are shares of all pixels; a mask is where the label is."""
    np.testing.assert_allclose(result.areas, [0.75, 0])
    np.testing.assert_array_equal(result.mask("dog"), [[False, True], [True, True]])


def test_unknown_class_names_the_known(result: Segmentation) -> None:
    """A mistyped class is an error that lists the classes."""
    with pytest.raises(ConfigError, match="dog, grass"):
        result.mask("cat")


def test_summary_is_json_of_what_is_present(result: Segmentation) -> None:
    """Absent classes are left out."""
    assert json.loads(json.dumps(result.summary())) == [
        {"id": 1, "name": "dog", "score": 0.5, "area": 0.75}
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_areas_count_every_pixel_of_a_class(dtype: type) -> None:
    """Areas are exact shares for both depths, void and any memory order included."""
    labels = np.random.default_rng(0).integers(0, 4, (30, 41)).astype(dtype)
    labels[:5] = np.iinfo(dtype).max
    names = ("a", "b", "c", "d")
    result = Segmentation(labels.T[::-1], names, np.ones(4, np.float32))
    assert result.areas.dtype == np.float64
    np.testing.assert_array_equal(result.areas, [(labels == i).mean() for i in (1, 2, 3, 4)])


@pytest.fixture
def scene() -> Segmentation:
    """A dog in two parts, grass, and no cat."""
    labels = np.zeros((6, 8), np.uint8)
    labels[0:2, 0:3], labels[4, 5], labels[3, 4], labels[5] = 1, 1, 1, 3
    return Segmentation(labels, ("dog", "cat", "grass"), np.array([0.5, 0, 0.75], np.float32))


def test_detections_are_the_classes_present(scene: Segmentation) -> None:
    """One detection a class: mask, tight box, label, score and name."""
    found = scene.to_detections()
    assert found.class_id.tolist() == [1, 3]
    np.testing.assert_array_equal(found.mask, [scene.mask("dog"), scene.mask("grass")])
    assert found.xyxy.tolist() == [[0, 0, 6, 5], [0, 5, 8, 6]]
    assert found.confidence.tolist() == [0.5, 0.75]
    assert found.data["class_name"].tolist() == ["dog", "grass"]


def test_detections_of_instances(scene: Segmentation) -> None:
    """Parts that do not touch, corners included, are detections of their own."""
    found = scene.to_detections(instances=True)
    assert found.class_id.tolist() == [1, 1, 3]
    assert found.xyxy.tolist() == [[0, 0, 3, 2], [4, 3, 6, 5], [0, 5, 8, 6]]
    np.testing.assert_array_equal(found.mask[0] | found.mask[1], scene.mask("dog"))


def test_detections_can_be_annotated_and_filtered(scene: Segmentation) -> None:
    """What comes out works in supervision: annotators, filters, areas."""
    supervision = pytest.importorskip("supervision")
    found = scene.to_detections()
    image = np.zeros((6, 8, 3), np.uint8)
    assert supervision.MaskAnnotator().annotate(image.copy(), found).any()
    assert found[found.confidence > 0.6].data["class_name"].tolist() == ["grass"]
    assert found.area.tolist() == [8, 8]


def test_detections_of_nothing() -> None:
    """Without a class present there are no detections, and that is no error."""
    result = Segmentation(np.zeros((2, 3), np.uint8), ("dog",), np.zeros(1, np.float32))
    found = result.to_detections()
    assert len(found) == 0
    assert found.mask.shape == (0, 2, 3)


def test_without_supervision_the_cure_is_named(
    scene: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where supervision is missing, one sentence tells how to install it."""
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(BackendUnavailableError, match="run `pip install supervision`"):
        scene.to_detections()


def test_supervision_is_not_imported_before_it_is_needed() -> None:
    """Importing results does not import supervision."""
    code = "import sys, atas_deploy.core.results; sys.exit('supervision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Segmentation results."""

import json

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError
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

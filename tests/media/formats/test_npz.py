"""Tests of results as arrays."""

from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.errors import OutputError
from atas_deploy.core.results import Segmentation
from atas_deploy.media.formats import write_npz


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("probability", [None, np.array([[0.25, 0.5]], np.float32)])
def test_arrays_come_back(tmp_path: Path, dtype: type, probability) -> None:
    """Without pickle, all arrays are what they were, type included."""
    labels = np.array([[0, 2]], dtype)
    names = ("dog", "犬" * 5_000)
    write_npz(tmp_path / "a.npz", Segmentation(labels, names, np.ones(2, np.float32), probability))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert tuple(arrays["class_names"].tolist()) == names
        np.testing.assert_array_equal(arrays["labels"], labels, strict=True)
        np.testing.assert_array_equal(arrays["scores"], np.ones(2, np.float32), strict=True)
        assert ("probability" in arrays) == (probability is not None)
        if probability is not None:
            np.testing.assert_array_equal(arrays["probability"], probability, strict=True)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be written is our error, and nothing is left."""
    result = Segmentation(np.zeros((1, 1), np.uint8), ("dog",), np.zeros(1, np.float32))
    with pytest.raises(OutputError, match="folder does not exist"):
        write_npz(tmp_path / "sub" / "a.npz", result)
    assert not list(tmp_path.iterdir())

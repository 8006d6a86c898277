"""Classes of patches."""

import numpy as np

from atas_deploy.evaluation.patches import labelled_patches, patch_labels
from atas_deploy.evaluation.truth import VOID


def test_patch_labels_by_hand() -> None:
    """A majority, a tie that the lower label wins, void around, and no half for any."""
    labels = np.array(
        [
            [1, 1, 2, 2, VOID, VOID],
            [1, 2, 1, 1, VOID, 3],
            [0, 0, 1, 2, VOID, VOID],
            [0, 1, 3, 1, VOID, VOID],
        ],
        np.uint16,
    )
    labels[3, 3] = 4
    found = patch_labels(labels, (2, 3))
    np.testing.assert_array_equal(found, [[1, 1, 3], [0, VOID, VOID]])


def test_patch_labels_equal_a_loop() -> None:
    """Cells whose borders cut through pixels, which count by their share."""
    labels = np.random.default_rng(0).choice([1, 2, VOID], (7, 10)).astype(np.uint16)
    found = patch_labels(labels, (3, 4))
    for r, c in np.ndindex(3, 4):
        area = {1: 0.0, 2: 0.0}
        for y, x in np.ndindex(7, 10):
            down = min(y + 1, (r + 1) * 7 / 3) - max(y, r * 7 / 3)
            across = min(x + 1, (c + 1) * 10 / 4) - max(x, c * 10 / 4)
            if labels[y, x] in area:
                area[int(labels[y, x])] += max(down, 0) * max(across, 0)
        assert found[r, c] == max(area, key=lambda label: area[label])


def test_background_and_void_patches_do_not_count() -> None:
    """The others keep their places, and get unit length."""
    labels = np.array([[0, 2], [VOID, 5]], np.uint16)
    dense = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    found = labelled_patches(dense, labels)
    assert found.labels.tolist() == [2, 5]
    np.testing.assert_allclose(found.features[0] * np.sqrt(50), [3, 4, 5], rtol=1e-6)

"""Segmentation metrics on hand-counted maps."""

import numpy as np

from atas_deploy.core.metrics import class_iou, confusion_matrix


def test_confusion_ignores_unlabelled_pixels() -> None:
    """Rows are truth, columns predictions; 255 does not count."""
    truth = np.array([[0, 1], [1, 255]], np.uint8)
    predicted = np.array([[0, 0], [1, 1]], np.uint8)
    np.testing.assert_array_equal(
        confusion_matrix(truth, predicted, classes=3), [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    )


def test_iou_by_hand() -> None:
    """1 hit of 2, 1 hit of 2, and a class that never occurs."""
    iou = class_iou(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]]))
    np.testing.assert_allclose(iou, [0.5, 0.5, np.nan])

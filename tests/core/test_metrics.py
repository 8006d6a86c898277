"""Metrics on hand-counted cases."""

import numpy as np

from atas_deploy.core.metrics import class_iou, confusion_matrix, retrieval_recall


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


def test_recall_counts_the_ranks() -> None:
    """Three images, four captions: one is beaten by one other image."""
    texts = np.array([[1.0, 0, 0], [0.9, 0.8, 0], [0, 1, 0], [0.5, 0, 0.4]], np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    got = retrieval_recall(np.eye(3, dtype=np.float32), texts, np.array([0, 1, 1, 2]))
    assert got["text_to_image_R@1"] == 50.0
    assert got["text_to_image_R@5"] == 100.0
    assert got["image_to_text_R@1"] == 100.0

"""Segmentation metrics from a confusion matrix, streamed image by image."""

import numpy as np
import numpy.typing as npt


def confusion_matrix(
    truth: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    *,
    classes: int,
    ignore_index: int = 255,
) -> npt.NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        truth: (H, W) labels in [0, classes), or `ignore_index` where unlabelled.
        predicted: (H, W) labels in [0, classes).
        classes: number of classes.
        ignore_index: true label of pixels that do not count.

    Returns:
        (classes, classes) int64, rows truth, columns predictions.
    """
    counted = truth != ignore_index
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_iou(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Intersection over union of each class, (classes,); NaN where neither true nor predicted.

    Source: the PASCAL VOC definition; mIoU is its mean over the classes that are not NaN.
    """
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(union > 0, hits / union, np.nan))

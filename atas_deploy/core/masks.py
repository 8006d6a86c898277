"""Query logits on the patch grid to a label map: the definition, in its plain form.

Logits are interpolated bilinearly to the output size (align_corners false, edges clamped); a pixel
gets the class of the query with the largest interpolated logit, the lowest query on ties. P is that
query's softmax probability over all queries; where P is below the threshold the pixel is background
(class 0).

    H W pixels, h w grid, Q queries
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size

FloatArray = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Labels of every pixel, and their probability if it was needed.

    Attributes:
        labels: (H, W) uint8, or uint16 beyond 254 classes; 0 is background.
        probability: (H, W) float32 in (0, 1], or None.
    """

    labels: Labels
    probability: FloatArray | None


def label_map(
    logits: FloatArray,
    query_class: npt.NDArray[np.intp],
    *,
    size: Size,
    threshold: float | None = None,
) -> LabelMap:
    """Label every pixel; memory O(H W), time O(Q H W).

    Args:
        logits: (h, w, Q), already multiplied by the logit scale.
        query_class: (Q,) class of each query.
        size: (H, W) of the output.
        threshold: least probability of a pixel that keeps its class; None keeps all.
    """
    best: FloatArray | None = None
    total = np.zeros(0, np.float32)
    winner = np.zeros(size, np.uint16 if logits.shape[-1] <= 65_536 else np.uint32)
    for q in range(logits.shape[-1]):
        current = _upsample(logits[..., q], size)
        if best is None:
            best = current
            total = np.ones_like(current)
            continue
        if threshold is not None:
            top = np.maximum(best, current)
            total = total * np.exp(best - top) + np.exp(current - top)
        np.copyto(winner, winner.dtype.type(q), where=current > best)
        np.maximum(best, current, out=best)
    labels = as_labels(query_class)[winner]
    if threshold is None:
        return LabelMap(labels, None)
    probability = 1.0 / total
    labels[probability < threshold] = 0
    return LabelMap(labels, probability.astype(np.float32, copy=False))


def class_scores(
    logits: FloatArray,
    query_class: npt.NDArray[np.intp],
    *,
    classes: int,
    threshold: float | None = None,
) -> FloatArray:
    """Mean probability of each class over the grid cells that it wins, 0 where it wins none.

    Args:
        logits: (h, w, Q), already multiplied by the logit scale.
        query_class: (Q,) class of each query.
        classes: C, the number of the user's classes.
        threshold: as in `label_map`.

    Returns:
        (C,) float32 in [0, 1].
    """
    flat = logits.reshape(-1, logits.shape[-1])
    winner = flat.argmax(axis=1)
    top = flat.max(axis=1, keepdims=True)
    probability = 1.0 / np.exp(flat - top).sum(axis=1)
    label = query_class[winner]
    if threshold is not None:
        label = np.where(probability < threshold, 0, label)
    cells = np.bincount(label, minlength=classes + 1)
    sums = np.bincount(label, weights=probability, minlength=classes + 1)
    return (sums / np.maximum(cells, 1))[1 : classes + 1].astype(np.float32)


def as_labels(classes: npt.NDArray[np.integer]) -> Labels:
    """Class numbers in the dtype of label maps: the highest value stays free for void."""
    return classes.astype(np.uint8) if classes.max() <= 254 else classes.astype(np.uint16)


def _upsample(grid: FloatArray, size: Size) -> FloatArray:
    """Bilinear, half-pixel centres, edges clamped: (h, w) -> (H, W)."""
    source = np.ascontiguousarray(grid, dtype=np.float32)
    resized = cv2.resize(source, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.float32, copy=False)

"""What a pixel gets: the definition, in its plain form.

Logits are interpolated bilinearly to the output size (align_corners false, edges clamped); a pixel
gets the class of the query with the largest interpolated logit, the lowest query on ties. P is that
query's softmax probability over all queries; where P is below the threshold the pixel is background
(class 0). The score of a class is the mean of P over the cells of the grid that it wins.

    H W pixels, h w grid, Q queries, C classes
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size

FloatArray = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Labels of every pixel and scores of every class.

    Attributes:
        labels: (H, W) uint8, or uint16 beyond 254 classes; 0 is background.
        scores: (C,) float32 in [0, 1], 0 for a class that wins no cell.
        probability: (H, W) float32 in (0, 1], or 0 where no query competes; or None.
    """

    labels: Labels
    scores: FloatArray
    probability: FloatArray | None


def strongest(maps: Iterable[FloatArray], size: Size) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """Find the winner of maps that come one by one, and its softmax probability over all of them.

    Args:
        maps: (H, W) float32 logits of one query after the other.
        size: (H, W).

    Returns:
        The winning map's number, (H, W) int32, the lowest on ties; its probability (H, W) float32.
    """
    best, total = np.full(size, -np.inf, np.float32), np.zeros(size, np.float32)
    winner = np.zeros(size, np.int32)
    for number, current in enumerate(maps):
        top = np.maximum(best, current)
        total = total * np.exp(best - top) + np.exp(current - top)
        np.copyto(winner, number, where=current > best)
        best = top
    return winner, np.reciprocal(total)


def interpolate(grid: FloatArray, size: Size) -> FloatArray:
    """Bilinear interpolation with half-pixel centres and clamped edges: (h, w) -> (H, W)."""
    source = np.ascontiguousarray(grid, dtype=np.float32)
    resized = cv2.resize(source, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.float32, copy=False)


def cell_probability(logits: FloatArray) -> FloatArray:
    """Softmax probability of the largest logit: (..., Q) -> (...)."""
    top = logits.max(axis=-1, keepdims=True)
    probability: FloatArray = 1 / np.exp(logits - top).sum(axis=-1)
    return probability


def class_scores(
    labels: npt.NDArray[np.integer],
    probability: FloatArray,
    *,
    classes: int,
    threshold: float | None = None,
) -> FloatArray:
    """Mean probability of each class over the cells of the grid that it wins.

    Args:
        labels: class of each cell.
        probability: of each cell, of the same shape.
        classes: C.
        threshold: cells below it belong to no class.
    """
    won = np.where(probability < (threshold or 0), 0, labels).ravel()
    cells = np.bincount(won, minlength=classes + 1)
    sums = np.bincount(won, weights=probability.ravel(), minlength=classes + 1)
    return (sums / np.maximum(cells, 1))[1 : classes + 1].astype(np.float32)


def as_labels(classes: npt.NDArray[np.integer]) -> Labels:
    """Class numbers in the dtype of label maps: the highest value stays free for void."""
    return classes.astype(np.uint8) if classes.max() <= 254 else classes.astype(np.uint16)

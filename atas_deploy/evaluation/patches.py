"""Patches that have a class, by the labels of their pixels.

A patch has the label that at least half of its labelled pixels have, and does not count if there is
none, or if that is 0, the background.

h w grid, D width, M patches
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.vectors import unit
from atas_deploy.evaluation.rows import FloatArray
from atas_deploy.evaluation.truth import VOID, LabelMap

_ROUNDING = 1e-6  # of areas in pixels

Features = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Patches that have a class.

    Attributes:
        features: (M, D) float32, L2-normalised.
        labels: (M,) classes.
    """

    features: Features
    labels: IntArray


def labelled_patches(dense: Features, labels: LabelMap) -> Patches:
    """The patches of a picture that have a class.

    Args:
        dense: (h, w, D).
        labels: (H, W) of the picture, which the grid covers.
    """
    found = patch_labels(labels, dense.shape[:2]).ravel()
    counted = (found != 0) & (found != VOID)
    return Patches(unit(dense.reshape(len(found), -1)[counted]), found[counted])


def patch_labels(labels: LabelMap, grid: tuple[int, ...]) -> LabelMap:
    """The class of each cell of a grid over a label map.

    Args:
        labels: (H, W) with `VOID` for pixels without label.
        grid: (h, w); pixels that lie in several cells count in each by their share.

    Returns:
        (h, w): the label of at least half of a cell's labelled pixels, the lower one of two equal
        halves; else `VOID`.
    """
    down, across = (_shares(n, cells) for n, cells in zip(labels.shape, grid, strict=True))
    present = np.setdiff1d(labels, [VOID])
    best, most = np.full(grid, VOID, labels.dtype), np.zeros(grid)
    labelled = down @ (labels != VOID) @ across.T
    for label in present:
        area = down @ (labels == label) @ across.T
        best = np.where(area > most + _ROUNDING, label, best)
        most = np.maximum(most, area)
    is_known = (labelled > 0) & (most >= labelled / 2 - _ROUNDING)
    return np.where(is_known, best, VOID).astype(labels.dtype)


def _shares(pixels: int, cells: int) -> FloatArray:
    """Length of each pixel in each cell, in pixels: (cells, pixels)."""
    ends = np.linspace(0, pixels, cells + 1)[:, None]
    places = np.arange(pixels)
    low, high = np.maximum(ends[:-1], places), np.minimum(ends[1:], places + 1)
    return np.asarray(np.maximum(high - low, 0.0))

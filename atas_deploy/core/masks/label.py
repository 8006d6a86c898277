"""From features and words to the labels of all pixels.

H W pixels, h w grid, D embedding width, Q queries, C classes
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size
from atas_deploy.core.masks.axis import pixel_axis
from atas_deploy.core.masks.cells import corners_of_cells, label_cells
from atas_deploy.core.masks.definition import (
    FloatArray,
    LabelMap,
    as_labels,
    cell_probability,
    class_scores,
    interpolate,
    strongest,
)
from atas_deploy.core.masks.threshold import Band, below_threshold

IntArray = npt.NDArray[np.intp]
_BAND = 2_000_000  # logits at once: bounds the memory when there are many queries


def label_map(
    dense: FloatArray,
    queries: FloatArray,
    query_class: IntArray,
    *,
    size: Size,
    threshold: float | None = None,
    probability: bool = False,
) -> LabelMap:
    """Label every pixel, as defined in `atas_deploy.core.masks.definition`.

    Exact, pixels within rounding of a tie aside. Memory O(H W), and time that hardly grows with the
    number of queries, unless the probability of every pixel is wanted: that takes O(Q H W) time.

    Args:
        dense: (h, w, D) features of the grid.
        queries: (D, Q) text features times the logit scale.
        query_class: (Q,) class of each query, ascending.
        size: (H, W) of the output.
        threshold: least probability of a pixel that keeps its class; None keeps all.
        probability: whether to return the probability of every pixel too.
    """
    if probability:
        return _label_with_probability(dense, queries, query_class, size, threshold)
    h, w, _ = dense.shape
    rows, columns = pixel_axis(h, size[0]), pixel_axis(w, size[1])
    label_of, log_threshold = as_labels(query_class), np.log(threshold) if threshold else None
    labels = np.empty(size, label_of.dtype)
    winners, sureness = np.empty((h, w), np.intp), np.empty((h, w), np.float32)
    for band in _bands(dense, queries):
        r, c = band.corners.shape[:2]
        pixels = slice(rows.edges[band.first], rows.edges[band.first + r])
        place = band.logits, band.corners, band.winners, rows, columns
        if log_threshold is None:
            labels[pixels] = label_cells(*place, first=band.first, values=label_of)
        else:
            won = label_cells(*place, first=band.first, values=np.arange(len(label_of)))
            labels[pixels] = label_of[won]
            below = below_threshold(
                band, won, labels[pixels] > 0, rows, columns, log_threshold=log_threshold
            )
            labels[pixels][below] = 0
        own = slice(max(band.first, 1), band.first + r)  # nodes that are not repeated
        inner = slice(own.start - band.first, own.stop - band.first), slice(1, c)
        winners[own.start - 1 : own.stop - 1] = band.winners.reshape(r + 1, c + 1)[inner]
        sureness[own.start - 1 : own.stop - 1] = np.exp(-band.lse.reshape(r + 1, c + 1)[inner])
    scores = class_scores(
        query_class[winners], sureness, classes=int(query_class[-1]), threshold=threshold
    )
    return LabelMap(labels, scores, None)


def _bands(dense: FloatArray, queries: FloatArray) -> Iterator[Band]:
    """Multiply with the queries, some rows of cells at a time; the outer nodes are repeated."""
    h, w, width = dense.shape
    column = np.clip(np.arange(-1, w + 1), 0, w - 1)
    step = max(1, _BAND // (len(column) * queries.shape[1]))
    for first in range(0, h + 1, step):
        last = min(first + step, h + 1)
        row = np.clip(np.arange(first - 1, last), 0, h - 1)
        logits = dense[row[:, None], column].reshape(-1, width) @ queries
        winners = logits.argmax(axis=1)
        logits -= np.take_along_axis(logits, winners[:, None], axis=1)  # rounding is least near 0
        corners = corners_of_cells(np.arange(len(logits)).reshape(len(row), len(column)))
        lse = np.log(np.exp(logits).sum(axis=1))
        yield Band(logits, lse, corners, winners, first)


def _label_with_probability(
    dense: FloatArray,
    queries: FloatArray,
    query_class: IntArray,
    size: Size,
    threshold: float | None,
) -> LabelMap:
    """The definition itself: every query is interpolated to full size."""
    logits = dense @ queries
    maps = (interpolate(logits[..., q], size) for q in range(logits.shape[-1]))
    won, probability = strongest(maps, size)
    labels = as_labels(query_class)[won]
    labels[probability < (threshold or 0)] = 0
    scores = class_scores(
        query_class[logits.argmax(axis=-1)],
        cell_probability(logits),
        classes=int(query_class[-1]),
        threshold=threshold,
    )
    return LabelMap(labels, scores, probability)

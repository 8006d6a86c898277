"""Metrics: segmentation from counts, areas under ROC curves from histograms, ranks.

C classes, B bins; sums may have leading axes, such as the replicates of a bootstrap.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError

FloatArray = npt.NDArray[np.float64]

TIE = 1e-6
"""Cosines closer than this are equal: what is the same differs by less in float32, and what is not
rarely differs by so little."""


@dataclass(frozen=True, slots=True, eq=False)
class Areas:
    """Pixels of each class that count, (..., C) each.

    Attributes:
        hits: true and predicted.
        predicted: predicted.
        truth: true.
    """

    hits: FloatArray
    predicted: FloatArray
    truth: FloatArray


def count_areas(
    truth: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    *,
    classes: int,
    void: int,
) -> Areas:
    """Count the pixels of each class.

    Args:
        truth: (H, W) labels in [0, classes), or `void` where a pixel does not count.
        predicted: (H, W) labels; what is not in [0, classes) is no class of the truth: it misses
            the true one, and no class has it among its predictions.
        classes: number of classes C.
        void: true label of pixels that do not count.

    Raises:
        InputError: a true label is neither.

    Source: mmsegmentation's IoUMetric; its sums of intersections and areas.
    """
    counted = truth != void
    t, p = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    if wrong := t[(t < 0) | (t >= classes)][:1].tolist():
        raise InputError(
            f"Got the true label {wrong[0]}; expected 0 to {classes - 1}, or {void} for void."
        )
    known = p[(p >= 0) & (p < classes)]
    return Areas(
        np.bincount(t[t == p], minlength=classes).astype(float),
        np.bincount(known, minlength=classes).astype(float),
        np.bincount(t, minlength=classes).astype(float),
    )


def iou(areas: Areas) -> FloatArray:
    """Intersection over union of each class, (..., C); NaN where neither true nor predicted."""
    return ratio(areas.hits, areas.truth + areas.predicted - areas.hits)


def class_accuracy(areas: Areas) -> FloatArray:
    """Share of the true pixels of each class that are found, (..., C); NaN where there are none."""
    return ratio(areas.hits, areas.truth)


def pixel_accuracy(areas: Areas) -> FloatArray:
    """Share of the pixels that are right, (...); NaN where none counts."""
    return ratio(areas.hits.sum(-1), areas.truth.sum(-1))


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> FloatArray:
    """Quotients, NaN where the divisor is 0."""
    a, b = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0))


def known_mean(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def auc_of_histograms(positive: FloatArray, negative: FloatArray) -> FloatArray:
    """Area under the ROC curve of scores of which only histograms are known.

    It is the chance that a positive score is above a negative one, where scores in one bin count as
    ties, one half. Bins of a width h miss scores of a standard deviation s by some (h / s)² / 50.

    Args:
        positive: (..., B) counts, bins from low to high scores.
        negative: (..., B) counts.

    Returns:
        (...) in [0, 1]; NaN where either has no counts.

    Source: Hanley and McNeil, Radiology 143, 1982: the area is the Mann-Whitney statistic.
    """
    below = np.cumsum(negative, axis=-1) - negative
    wins = (positive * (below + negative / 2)).sum(-1)
    return ratio(wins, positive.sum(-1) * negative.sum(-1))


def rank_among(
    own: npt.NDArray[np.floating], others: npt.NDArray[np.floating]
) -> npt.NDArray[np.intp]:
    """Rank of the right answer: how many others are as similar or more so; 0 = it comes first.

    Cosines that differ by no more than `TIE` are equal, and equals rank before the right answer, so
    that a model for which everything is the same finds nothing.

    Args:
        own: (K,) cosines of the right answers.
        others: (K, N) cosines of the wrong ones; -inf for what does not compete.

    Returns:
        (K,) integers in [0, N].
    """
    return np.asarray((others >= own[:, None] - TIE).sum(axis=1))

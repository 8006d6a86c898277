"""Logits of regions to their classes, best first.

K regions, Q queries, C classes, T of them kept
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]


def class_probability(logits: FloatArray, query_class: IntArray) -> FloatArray:
    """Softmax over all queries; a class gets the probability of its most probable query.

    Args:
        logits: (K, Q) float32.
        query_class: (Q,) class of each query, ascending; 0 is the background.

    Returns:
        (K, C + 1) float32 in [0, 1]; column 0 is the background, 0 if it has no query.
    """
    probability = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    present, starts = np.unique(query_class, return_index=True)
    scores = np.zeros((len(logits), int(query_class[-1]) + 1), np.float32)
    scores[:, present] = np.maximum.reduceat(probability, starts, axis=1)
    return scores


def rank_classes(
    scores: FloatArray, *, top: int, threshold: float | None = None
) -> tuple[IntArray, FloatArray]:
    """Order the classes of each region by probability, the lowest class on ties.

    A region whose best query is a background word, or whose best probability is below the
    threshold, is background (label 0), and its classes follow. Elsewhere 0 does not appear.

    Args:
        scores: (K, C + 1) float32, from `class_probability`.
        top: T, how many labels to keep; there are no more than C.
        threshold: least probability of a region that is no background, in [0, 1]; None = 0.

    Returns:
        Labels (K, T), and the probability of each, (K, T) float32; that of label 0 is the best
        background word's.
    """
    nothing = (scores.max(axis=1) < (threshold or 0)) | (scores.argmax(axis=1) == 0)
    order = scores.copy()
    order[:, 0] = np.where(nothing, np.inf, -np.inf)
    count = min(top, scores.shape[1] - 1)
    labels = np.argsort(-order, axis=1, kind="stable")[:, :count]
    return labels, np.take_along_axis(scores, labels, axis=1)

"""Prompt denoising: classes that are sure of no cell of a picture do not compete in it.

Source: MaskCLIP (Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022),
"prompt denoising"; there with a logit scale of 100 and a bound of 0.5, which at a lower scale few
classes reach. That the background always competes is ours, and so is a picture with no class left.

D embedding width, Q queries, C classes
"""

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size
from atas_deploy.core.masks.definition import FloatArray, LabelMap, as_labels

_CHUNK = 4_000_000  # logits at once


def competing_queries(
    features: FloatArray,
    queries: FloatArray,
    query_class: npt.NDArray[np.intp],
    *,
    least: float,
) -> npt.NDArray[np.bool_]:
    """Find the queries of the classes that are probable enough in some cell.

    A query's probability in a cell is its softmax probability over all queries, a class's that of
    its most probable query. The background (class 0) is always kept.

    Args:
        features: (..., D) of all cells, before any interpolation; of all windows if there are any.
        queries: (D, Q) text features times the logit scale.
        query_class: (Q,) class of each query, ascending.
        least: probability that a class must reach in at least one cell.

    Returns:
        (Q,) bool.
    """
    cells = features.reshape(-1, features.shape[-1])
    best = np.zeros(queries.shape[1], np.float32)
    step = max(1, _CHUNK // queries.shape[1])
    for start in range(0, len(cells), step):
        logits = cells[start : start + step] @ queries
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        np.maximum(best, logits.max(axis=0), out=best)
    of_class = np.zeros(int(query_class[-1]) + 1, np.float32)
    np.maximum.at(of_class, query_class, best)
    kept: npt.NDArray[np.bool_] = (of_class >= least)[query_class] | (query_class == 0)
    return kept


def widen(found: LabelMap, query_class: npt.NDArray[np.intp]) -> LabelMap:
    """A label map of some classes as one of all: as many scores, labels of the same dtype.

    Args:
        found: made with some of the queries.
        query_class: (Q,) class of every query.
    """
    scores = np.zeros(int(query_class[-1]), np.float32)
    scores[: len(found.scores)] = found.scores
    wide = as_labels(query_class).dtype == np.uint16
    labels = found.labels.astype(np.uint16) if wide else found.labels
    return LabelMap(labels, scores, found.probability)


def background_only(size: Size, query_class: npt.NDArray[np.intp]) -> LabelMap:
    """The label map where no query is left: all background, which won nothing (probability 0)."""
    labels = np.zeros(size, as_labels(query_class).dtype)
    return LabelMap(labels, np.zeros(int(query_class[-1]), np.float32), np.zeros(size, np.float32))

"""Pairs of patches: histograms of their cosines, for pairs of one class and of different classes.

M patches, B bins
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from atas_deploy.evaluation.patches import Patches
from atas_deploy.evaluation.rows import FloatArray

BINS = 1_000
"""Of cosines, of equal steps of sqrt((1 - cosine) / 2), the sine of half the angle: finest near 1,
where features of one model crowd."""

KEPT = 100
"""Bins of a row that are not empty, at most; which ones, each row decides. With it, areas of
features whose cosines lie above 0 and spread by 0.02 or more are exact to 0.0001."""

_AT_ONCE = 4_000_000  # pairs in memory


def count_pairs(a: Patches, b: Patches | None = None) -> FloatArray:
    """Histograms of the cosines of pairs.

    Args:
        a: M patches.
        b: others; None = all pairs within `a`, each once.

    Returns:
        (2, B): pairs of one class, pairs of different classes; bins from cosine -1 to 1.
    """
    other = a if b is None else b
    counts = np.zeros(2 * BINS, np.int64)
    step = max(1, _AT_ONCE // max(1, len(other.labels)))
    for start in range(0, len(a.labels), step):
        some = slice(start, start + step)
        halves = np.clip((1 - a.features[some] @ other.features.T) / 2, 0, 1)
        bins = np.minimum((1 - np.sqrt(halves)) * BINS, BINS - 1).astype(np.intp)
        bins += BINS * (a.labels[some, None] != other.labels)
        if b is None:  # pairs of a patch with itself or an earlier one are left out
            bins = bins[np.triu(np.ones(bins.shape, bool), k=start + 1)]
        counts += np.bincount(bins.ravel(), minlength=2 * BINS)
    return counts.reshape(2, BINS).astype(float)


def count_pairs_across(group: Sequence[Patches]) -> FloatArray:
    """Histograms of the cosines of pairs of patches from two pictures of a group, (2, B)."""
    counts = [count_pairs(a, b) for a, b in combinations(group, 2)]
    return np.sum(counts, axis=0) if counts else np.zeros((2, BINS))


def thin(counts: FloatArray) -> FloatArray:
    """Merge neighbouring bins, so that few are not empty.

    Each of the merged bins has about the same share of the pairs of one class and of those of
    different classes together, and lies at its centre of mass.

    Args:
        counts: (2, B) pairs of one class, pairs of different classes.

    Returns:
        (2, B), with `KEPT` bins that are not empty at most.
    """
    mass = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).sum(axis=0)
    whole = max(mass.sum(), 1e-9)
    middle = (np.cumsum(mass) - mass / 2) / whole  # of each bin, in [0, 1]
    part = np.minimum((middle * KEPT).astype(np.intp), KEPT - 1)
    weight = np.bincount(part, mass, KEPT)
    centre = np.bincount(part, mass * np.arange(BINS), KEPT) / np.where(weight > 0, weight, 1)
    places = np.rint(centre).astype(np.intp)[part]
    return np.stack([np.bincount(places, row, BINS) for row in counts])

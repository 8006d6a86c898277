"""The same things in the same colours: clusters and components of one model to those of another.

K L clusters or components of the two
"""

import numpy as np
import numpy.typing as npt

from atas_deploy.runtime.visual.maps import (
    Clusters,
    FloatArray,
    nearest_cells,
    resize_cells,
)


def best_pairs(value: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
    """Pair rows with columns, the pair of the largest value first; each is in one pair.

    Args:
        value: (K, L) of each pair.

    Returns:
        (L,) row of each column; columns that are left over get the numbers from K on.
    """
    left = value.astype(np.float64)
    rows = np.full(value.shape[1], -1, np.intp)
    for _ in range(min(value.shape)):
        row, column = np.unravel_index(left.argmax(), left.shape)
        rows[column] = row
        left[row, :] = left[:, column] = -np.inf
    over = np.flatnonzero(rows < 0)
    rows[over] = len(value) + np.arange(len(over))
    return rows


def match_clusters(clusters: Clusters, first: Clusters) -> Clusters:
    """Number clusters as those of another model that they share most cells with.

    Args:
        clusters: of a model on a picture.
        first: of another model on it; grids may differ.
    """
    k, count = first.scores.shape[-1], clusters.scores.shape[-1]
    wanted = nearest_cells(first.labels, clusters.labels.shape)
    shared = np.zeros((k, count), np.int64)
    np.add.at(shared, (wanted, clusters.labels), 1)
    number = best_pairs(shared)
    never = clusters.scores.min() - 1
    scores = np.full((*clusters.labels.shape, max(k, count)), never, np.float32)
    scores[..., number] = clusters.scores
    return Clusters(number[clusters.labels].astype(np.int32), scores)


def match_components(components: FloatArray, first: FloatArray) -> FloatArray:
    """Order and sign components (h, w, 3) as those of another model that they are most alike.

    Alike is measured by the absolute correlation over cells; grids may differ.
    """
    wanted = resize_cells(first, components.shape[:2]).reshape(-1, first.shape[-1])
    own = components.reshape(-1, components.shape[-1])
    alike = _correlation(wanted, own)
    number = best_pairs(np.abs(alike))
    sign = np.where(alike[number, np.arange(len(number))] < 0, -1, 1)
    matched = np.empty_like(components)
    matched[..., number] = components * sign
    return matched


def _correlation(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    """Correlation of the columns of (n, K) and (n, L): (K, L); 0 where one is constant."""
    x, y = (part.astype(np.float64) - part.mean(axis=0) for part in (a, b))
    size = np.linalg.norm(x, axis=0)[:, None] * np.linalg.norm(y, axis=0)
    return np.asarray(x.T @ y / np.maximum(size, 1e-12))

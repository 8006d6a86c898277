"""K-means of features.

N vectors, D width, K clusters
"""

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError

_ROUNDS = 50
_MOVED = 1e-4  # centres that move less have settled


def kmeans(
    features: npt.NDArray[np.float32], clusters: int, *, seed: int = 0, tries: int = 3
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Cluster vectors by Euclidean distance, which for unit vectors ranks as the cosine does.

    OpenCV's k-means++. Equal arguments give equal clusters.

    Args:
        features: (N, D) float32.
        clusters: K; no more than N are made.
        seed: of the first centres; it is OpenCV's global one and stays set.
        tries: how often to begin anew; the most compact clusters count.

    Returns:
        Cluster of each vector, (N,) int32, numbered by size from 0, the largest, on; and the
        centres (K, D), in that order.

    Raises:
        ConfigError: fewer than one cluster.
    """
    if clusters < 1:
        raise ConfigError(f"Got {clusters} clusters; expected 1 or more.")
    if len(features) < 2:  # OpenCV would take one row for D numbers
        return np.zeros(len(features), np.int32), features.copy()
    cv2.setRNGSeed(seed)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, _ROUNDS, _MOVED)
    count = min(clusters, len(features))
    none, start = np.zeros((0, 1), np.int32), cv2.KMEANS_PP_CENTERS
    _, found, centres = cv2.kmeans(features, count, none, stop, tries, start)
    labels = np.asarray(found, np.int32).ravel()
    order = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    rank = np.empty(count, np.int32)
    rank[order] = np.arange(count)
    return rank[labels], np.asarray(centres, np.float32)[order]

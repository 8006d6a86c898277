"""Dense features to maps: clusters, main components, similarity to a patch, words.

h w grid, D embedding width, K clusters, Q queries, C classes
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.cluster import kmeans
from atas_deploy.core.geometry import Size
from atas_deploy.core.vocabulary import Vocabulary

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

_COMPONENTS = 3  # red, green, blue
_TAILS = (1.0, 99.0)  # percentiles of a component that become its darkest and its brightest
_LEAST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """The clusters of a picture.

    Attributes:
        labels: (h, w) int32 cluster of each cell, from 0 on.
        scores: (h, w, K) float32: the cluster of a cell has the largest. They are linear in the
            feature, so that interpolating them is the same as clustering interpolated features.
    """

    labels: IntArray
    scores: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class WordMaps:
    """How well the classes fit each cell, by their best word.

    Attributes:
        probability: (h, w, C) float32 in [0, 1]: softmax over all words, the background's too.
        cosine: (h, w, C) float32 in [-1, 1].
    """

    probability: FloatArray
    cosine: FloatArray


def cluster_map(dense: FloatArray, clusters: int) -> Clusters:
    """Cluster the cells of a picture, the largest cluster first.

    Args:
        dense: (h, w, D) float32 unit vectors.
        clusters: K; no more are made than there are cells.

    Raises:
        ConfigError: fewer than one cluster.

    Source: CLIPSelf (Wu et al., ICLR 2024), figures 2c and 4.
    """
    h, w, width = dense.shape
    labels, centres = kmeans(dense.reshape(-1, width), clusters)
    scores = dense @ centres.T - (centres**2).sum(axis=1) / 2
    return Clusters(labels.reshape(h, w), scores)


def component_map(dense: FloatArray) -> FloatArray:
    """Project the cells of a picture on the three main components of their features.

    A component's sign is that which makes its largest loading positive.

    Args:
        dense: (h, w, D) float32.

    Returns:
        (h, w, 3) float32 around 0, the first component first; 0 where there is none.
    """
    h, w, width = dense.shape
    cells = dense.reshape(-1, width).astype(np.float64)
    cells -= cells.mean(axis=0)
    _, axes = np.linalg.eigh(cells.T @ cells)
    axes = axes[:, ::-1][:, :_COMPONENTS]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    projected = np.zeros((h * w, _COMPONENTS), np.float32)
    projected[:, : axes.shape[1]] = cells @ (axes * np.where(largest < 0, -1, 1))
    return projected.reshape(h, w, _COMPONENTS)


def component_colors(components: FloatArray) -> FloatArray:
    """Stretch components (h, w, 3) to red, green and blue in [0, 1], outer percents cut."""
    low, high = np.percentile(components, _TAILS, axis=(0, 1))
    stretched = (components - low) / np.maximum(high - low, _LEAST)
    return np.asarray(stretched.clip(0, 1), np.float32)


def similarity_map(dense: FloatArray, patch: tuple[int, int]) -> FloatArray:
    """Cosine of every cell with one of them, (h, w) float32.

    Args:
        dense: (h, w, D) float32 unit vectors.
        patch: row and column of that cell.
    """
    return np.asarray(dense @ dense[patch], np.float32)


def word_maps(
    dense: FloatArray, texts: FloatArray, vocabulary: Vocabulary, *, logit_scale: float
) -> WordMaps:
    """Compare the cells of a picture with words.

    Args:
        dense: (h, w, D) float32 unit vectors.
        texts: (Q, D) float32 unit vectors of the vocabulary's queries.
        vocabulary: the classes and what competes with them.
        logit_scale: factor on cosines before the softmax.
    """
    cosine = dense @ texts.T
    logits = logit_scale * cosine
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    query_class = vocabulary.query_class
    first = np.searchsorted(query_class, np.arange(1, len(vocabulary.names) + 1))
    best = (np.maximum.reduceat(maps, first, axis=-1) for maps in (logits, cosine))
    return WordMaps(*(np.asarray(maps, np.float32) for maps in best))


def resize_cells(cells: npt.NDArray[np.float32], grid: Size) -> FloatArray:
    """Average the cells of a grid, (h, w) or (h, w, n), over those of another, by area."""
    rows, columns = (_shares(length, cells.shape[axis]) for axis, length in enumerate(grid))
    return np.asarray(np.einsum("yi,ij...,xj->yx...", rows, cells, columns, optimize=True))


def nearest_cells(labels: IntArray, grid: Size) -> IntArray:
    """Labels (h, w) at the centres of the cells of another grid."""
    resized = cv2.resize(labels, (grid[1], grid[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, np.int32)


def _shares(new: int, old: int) -> FloatArray:
    """How much each of `new` equal parts of a line has of each of `old` parts, (new, old)."""
    edges = np.arange(new + 1) * (old / new)
    below = np.clip(edges[:, None] - np.arange(old), 0, 1)
    return np.asarray(np.diff(below, axis=0) * (new / old), np.float32)

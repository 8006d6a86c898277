"""Regions without another model: a grid of boxes, or connected parts of clustered features.

H W pixels, h w grid, D embedding width, K clusters, P parts
"""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle

from atas_deploy.core.cluster import kmeans
from atas_deploy.core.geometry import Size
from atas_deploy.core.masks import Labels, label_map
from atas_deploy.core.region import Mask, Region, Rle
from atas_deploy.core.vectors import unit
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.regions.pool import one_map
from atas_deploy.runtime.settle import check_number, check_whole

FloatArray = npt.NDArray[np.float32]

_CLUSTERS = (2, 4, 8, 16, 32)
_WIDTH = 64  # of the features that are clustered
_FINE, _LONG_SIDE = 6, 640  # parts of a cell along a side, and of the grid at most


def grid_regions(size: Size, rows: int, columns: int) -> list[Region]:
    """Boxes of a grid that cover a picture, row by row.

    Args:
        size: (H, W) of the picture.
        rows: boxes down.
        columns: boxes across.

    Raises:
        ConfigError: fewer than one row or column.
    """
    rows = check_whole("grid", rows, "a whole number of rows above 0")
    columns = check_whole("grid", columns, "a whole number of columns above 0")
    y, x = (np.arange(n + 1) * side / n for n, side in zip((rows, columns), size, strict=True))
    return [
        Region(box=(float(x[j]), float(y[i]), float(x[j + 1]), float(y[i + 1])))
        for i in range(rows)
        for j in range(columns)
    ]


def propose(
    encoded: Encoded,
    *,
    most: int = 25,
    clusters: Sequence[int] = _CLUSTERS,
    least_area: float = 0.002,
    overlap: float = 0.7,
    seed: int = 0,
) -> list[Region]:
    """Propose regions of a picture: connected parts of its features in clusters.

    The features are clustered by k-means into few and into more, after a random projection that
    keeps distances nearly; every point of a grid six times as fine gets the nearest centre to its
    interpolated feature, and the connected parts (4 neighbours) of each cluster are proposals,
    unless they are thinner than a cell, as the rims are where features of two things mix. A part's
    score is its contrast times the square root of its share of the picture. The contrast is
    the mean cosine of its cells to their mean, less that of the cells around it. Equal arguments
    give equal proposals.

    Args:
        encoded: the picture with its features.
        most: how many proposals, at most; the best are kept.
        clusters: how many clusters; for each number the features are clustered anew.
        least_area: share of the picture that a proposal has at least, in [0, 1].
        overlap: intersection over union with a better proposal, both on the fine grid, above which
            one is dropped, in [0, 1].
        seed: of the projection and the clusters.

    Returns:
        Regions with masks and scores, the best first.

    Raises:
        ConfigError: an argument cannot be used, or the features are those of windows that are
            merged as pixels.

    Source: the projection is that of Johnson and Lindenstrauss, "Extensions of Lipschitz mappings
    into a Hilbert space", 1984.
    """
    most = check_whole("most", most, "a whole number of proposals above 0")
    least_area = check_number("least area", least_area, "a share in [0, 1]", _is_share)
    overlap = check_number("overlap", overlap, "a number in [0, 1]", _is_share)
    dense = one_map(encoded)
    dense = unit(dense)
    narrow, size = _project(dense, seed=seed), _fine_size(dense, encoded.size)
    codes, insides = [], []
    for count in clusters:
        count = check_whole("number of clusters", count, "a whole number above 0")
        labels = _cluster_map(narrow, count, size=size, seed=seed)
        for mask in _parts(labels, least_area, least_width=_cell_width(dense, size)):
            codes.append(rle.encode(np.asfortranarray(mask, np.uint8)))
            insides.append(_cells(mask, dense.shape[:2]))
    if not codes:
        return []
    scores = _scores(np.stack(insides), dense)
    kept = _distinct(codes, scores, most=most, overlap=overlap)
    masks = (_enlarge(rle.decode(codes[index]), encoded.size) for index in kept)
    return [
        Region.from_mask(mask, score=float(scores[index]))
        for index, mask in zip(kept, masks, strict=True)
    ]


def _is_share(number: float) -> bool:
    return 0 <= number <= 1


def _project(dense: FloatArray, *, seed: int) -> FloatArray:
    """Features (h, w, D) by a random matrix to fewer dimensions, if they have more."""
    width = dense.shape[-1]
    if width <= _WIDTH:
        return dense
    matrix = np.random.default_rng(seed).normal(0, _WIDTH**-0.5, (width, _WIDTH))
    return np.asarray(dense @ matrix.astype(np.float32))


def _fine_size(dense: FloatArray, size: Size) -> Size:
    """Height and width at which parts are found, no larger than the picture."""
    h, w = dense.shape[:2]
    fine = max(1, min(_FINE, _LONG_SIDE // max(h, w)))
    return min(h * fine, size[0]), min(w * fine, size[1])


def _cluster_map(dense: FloatArray, clusters: int, *, size: Size, seed: int) -> Labels:
    """The nearest centre of every point's interpolated feature, counted from 1: (H, W).

    |x - c|^2 is least where 2 x c - |c|^2 is largest, which is linear in x: a label map.
    """
    h, w, width = dense.shape
    _, centres = kmeans(dense.reshape(-1, width), clusters, seed=seed, tries=1)
    offsets = -np.square(centres).sum(axis=1, keepdims=True)
    queries = np.concatenate([2 * centres, offsets], axis=1).T
    features = np.concatenate([dense, np.ones((h, w, 1), np.float32)], axis=2)
    return label_map(features, queries, np.arange(1, len(centres) + 1), size=size).labels


def _cell_width(dense: FloatArray, size: Size) -> float:
    """The shorter side of a cell in points of the fine grid."""
    h, w, _ = dense.shape
    return float(min(size[0] / h, size[1] / w))


def _parts(labels: Labels, least_area: float, *, least_width: float) -> Iterator[Mask]:
    """Connected parts of each label, (H, W) bool, those that are large enough and not all thin."""
    for label in np.unique(labels):
        mask = np.asarray(labels == label, np.uint8)
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        large = stats[:, cv2.CC_STAT_AREA] >= least_area * labels.size
        for part in np.flatnonzero(large[1:]) + 1:
            found = numbers == part
            if _width(found) >= least_width:
                yield found


def _width(mask: Mask) -> float:
    """Twice the distance of the deepest point of a mask (H, W) from what is not in it."""
    padded = np.pad(mask.view(np.uint8), 1)
    return 2 * float(cv2.distanceTransform(padded, cv2.DIST_C, 3).max())


def _cells(mask: Mask, grid: Size) -> FloatArray:
    """Share of each cell (h, w) that a mask covers."""
    wide = mask.astype(np.float32)
    return np.asarray(cv2.resize(wide, grid[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _scores(insides: FloatArray, dense: FloatArray) -> FloatArray:
    """Contrast times the square root of the share of the picture: (P, h, w) to (P,) in [0, 1]."""
    wider = [cv2.dilate(inside, np.ones((3, 3), np.uint8)) for inside in insides]
    flat = insides.reshape(len(insides), -1)
    around = np.asarray(wider, np.float32).reshape(flat.shape) - flat
    features = dense.reshape(flat.shape[1], -1)
    means = unit(flat @ features)
    cosines = np.asarray(means @ features.T, np.float32)
    contrast = _weighted_mean(cosines, flat) - _weighted_mean(cosines, around)
    return np.asarray(np.clip(contrast * np.sqrt(flat.mean(axis=1)), 0, 1))


def _weighted_mean(values: FloatArray, weights: npt.NDArray[Any]) -> FloatArray:
    """Mean of each row (P, N) to (P,); 0 where no weight is above 0."""
    return np.asarray((values * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12))


def _distinct(codes: Sequence[Rle], scores: FloatArray, *, most: int, overlap: float) -> list[int]:
    """Non-maximum suppression: the best masks, none of which overlaps a better one too much."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if len(kept) == most:
            break
        better = [codes[other] for other in kept]
        if not better or rle.iou([codes[index]], better, [0] * len(better)).max() <= overlap:
            kept.append(index)
    return kept


def _enlarge(mask: npt.NDArray[np.uint8], size: Size) -> Mask:
    """A mask at the size of its picture, its edges smooth."""
    across = mask.T.astype(np.uint8) * 255  # so that the wide one lies as run lengths want it
    wide = cv2.resize(across, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(wide >= 128).T

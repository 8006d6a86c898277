"""Label maps of windows that are merged pixel by pixel, as the published protocols do.

The logits of each window are interpolated bilinearly to the pixels that it covers (align_corners
false), averaged over the windows that cover a pixel, and interpolated bilinearly to the output.
All of this is linear, the same for every query, and separable: with one matrix for each axis, the
logits of the output are  rows @ logits of all cells @ columns^T.  So no query is ever held at full
size; the output is computed in blocks of some rows and columns, and of some queries.

Source: SCLIP `clip_segmentor.py`, NACLIP `naclip.py`, ClearCLIP `clearclip_segmentor.py`
(sliding windows, then a second interpolation).

    H W pixels of the output, H' W' of the resized image, R C windows, h w cells of each, Q queries
    A = R h and B = C w cells along the axes, D embedding width
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size, Tiles
from atas_deploy.core.masks.definition import FloatArray, LabelMap, as_labels, class_scores

_CELLS = 4_000_000  # logits of cells at once
_BLOCK = 1_000_000  # logits of pixels at once
_SIDE = 128  # columns of a block, at most: few windows touch it
_QUERIES = 80  # at once, at most: products stay so small that BLAS wakes no threads


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """How the cells of all windows make the pixels of an output, along both axes.

    Attributes:
        rows: (H, A) float32 weights; each row sums to 1.
        columns: (W, B) float32.
    """

    rows: FloatArray
    columns: FloatArray


def plan_merge(tiles: Tiles, cells: Size, size: Size) -> Merge:
    """Work out the weights.

    Args:
        tiles: the windows.
        cells: (h, w) cells of each window, spread over its pixels whatever their number.
        size: (H, W) of the output.
    """
    rows, columns = (
        _weights(*axis)
        for axis in zip(
            tiles.size, tiles.window, (tiles.rows, tiles.columns), cells, size, strict=True
        )
    )
    return Merge(rows, columns)


def _weights(
    pixels: int, window: int, starts: tuple[int, ...], cells: int, length: int
) -> FloatArray:
    """Weights of the cells of all windows along an axis, (length, number of windows x cells)."""
    spread = _stretch(np.eye(cells), window)
    merged = np.zeros((pixels, len(starts), cells))
    covered = np.zeros((pixels, 1, 1))
    for i, start in enumerate(starts):
        merged[start : start + window, i] = spread
        covered[start : start + window] += 1
    merged /= covered
    return _stretch(merged.reshape(pixels, -1), length).astype(np.float32)


def _stretch(values: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    """Bilinear interpolation along the first axis: half-pixel centres, clamped edges."""
    count = len(values)
    place = np.clip((np.arange(length) + 0.5) * (count / length) - 0.5, 0, count - 1)
    low = place.astype(np.intp)
    weight = (place - low)[:, None]
    stretched: npt.NDArray[np.float64] = (1 - weight) * values[low]
    stretched += weight * values[np.minimum(low + 1, count - 1)]
    return stretched


def as_grid(dense: FloatArray) -> FloatArray:
    """Cells of all windows side by side: (R, C, h, w, D) -> (A, B, D)."""
    r, c, h, w, width = dense.shape
    return dense.transpose(0, 2, 1, 3, 4).reshape(r * h, c * w, width)


def merged_label_map(
    dense: FloatArray,
    queries: FloatArray,
    query_class: npt.NDArray[np.intp],
    *,
    tiles: Tiles,
    size: Size,
    threshold: float | None = None,
    probability: bool = False,
) -> LabelMap:
    """Label every pixel by the logits of all windows, merged pixel by pixel.

    A pixel gets the class of the query with the largest merged logit, the lowest query on ties; its
    probability is the softmax over all queries. Scores are the means of that probability over a
    grid of cells as large as those of the windows, at whose centres the merged logits are taken.

    Exact, pixels within rounding of a tie aside. Time O(Q H W). Whatever the number of queries the
    memory is 12 bytes for each pixel of the output, and at a time 4 MB of logits of pixels and
    twice 16 MB of logits of cells (those of one query, if that is more).

    Args:
        dense: (R, C, h, w, D) features of the windows.
        queries: (D, Q) text features times the logit scale.
        query_class: (Q,) class of each query, ascending.
        tiles: where the windows lie in the resized image.
        size: (H, W) of the output.
        threshold: least probability of a pixel that keeps its class; None keeps all.
        probability: whether to return the probability of every pixel too.
    """
    grid, cells = as_grid(dense), (dense.shape[2], dense.shape[3])
    merge = plan_merge(tiles, cells, size)
    sure = probability or bool(threshold)
    won, chance = _winners(grid, queries, merge, sure=sure)
    labels = as_labels(query_class)[won]
    if threshold:
        labels[chance < threshold] = 0
    coarse = plan_merge(tiles, cells, grid_size(tiles, cells))
    cell_won, cell_chance = _winners(grid, queries, coarse, sure=True)
    scores = class_scores(
        query_class[cell_won], cell_chance, classes=int(query_class[-1]), threshold=threshold
    )
    return LabelMap(labels, scores, chance if probability else None)


def grid_size(tiles: Tiles, cells: Size) -> Size:
    """Cells over the whole image, as large as those of the windows."""
    height, width = (
        max(1, round(pixels * count / window))
        for pixels, count, window in zip(tiles.size, cells, tiles.window, strict=True)
    )
    return height, width


def _winners(
    grid: FloatArray, queries: FloatArray, merge: Merge, *, sure: bool
) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """The query that wins each pixel of an output, and if `sure` its softmax probability.

    Args:
        grid: (A, B, D) features of all cells.
        queries: (D, Q) text features times the logit scale.
        merge: the way to the output.
        sure: else the probabilities are not worked out.
    """
    size = len(merge.rows), len(merge.columns)
    best, total = np.full(size, -np.inf, np.float32), np.zeros(size, np.float32)
    won = np.zeros(size, np.int32)
    a, b, width = grid.shape
    step = max(1, min(_QUERIES, _CELLS // (a * b), _BLOCK // b))
    for first in range(0, queries.shape[1], step):
        logits = grid.reshape(-1, width) @ queries[:, first : first + step]
        for place, block in _blocks(logits.reshape(a, b, -1), merge):
            _take_in(block, first, sure, best[place], total[place], won[place])
    with np.errstate(divide="ignore"):
        return won, np.reciprocal(total)


def _take_in(
    block: FloatArray,
    first: int,
    sure: bool,
    best: FloatArray,
    total: FloatArray,
    won: npt.NDArray[np.int32],
) -> None:
    """Let some queries, from `first` on, compete in a block of pixels, (n, m, q)."""
    winner = block.argmax(axis=-1)
    top = np.take_along_axis(block, winner[..., None], axis=-1)[..., 0]
    np.copyto(won, winner + first, where=top > best, casting="same_kind")
    np.maximum(top, best, out=top)
    if sure:
        total *= np.exp(best - top)
        block -= top[..., None]
        total += np.exp(block, out=block) @ np.ones(block.shape[-1], np.float32)
    best[:] = top


def _blocks(logits: FloatArray, merge: Merge) -> Iterator[tuple[tuple[slice, slice], FloatArray]]:
    """Merged logits of blocks of pixels, (n, m, q), with their places.

    Many small matrix products, as BLAS computes these in one thread: beside an encoder that uses
    all cores, waiting for its threads would take several times as long as the product.

    Args:
        logits: (A, B, q) of all cells.
        merge: the way to the output.
    """
    b, q = logits.shape[1:]
    height, width = len(merge.rows), len(merge.columns)
    side = max(1, _BLOCK // (max(min(_SIDE, width), b) * q))
    logits = np.ascontiguousarray(logits.transpose(1, 0, 2))
    for top in range(0, height, side):
        y = slice(top, min(top + side, height))
        near = np.flatnonzero(merge.rows[y].any(axis=0))
        band = merge.rows[y, near] @ logits[:, near]
        for left in range(0, width, _SIDE):
            x = slice(left, min(left + _SIDE, width))
            beside = np.flatnonzero(merge.columns[x].any(axis=0))
            yield (y, x), merge.columns[x, beside] @ band[beside].transpose(1, 0, 2)

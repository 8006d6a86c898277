"""Label maps with every query's map refined by PAMR before they are compared.

H W pixels, h w grid, D embedding width, Q queries
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size, Tiles
from atas_deploy.core.masks.definition import (
    FloatArray,
    LabelMap,
    as_labels,
    class_scores,
    interpolate,
    strongest,
)
from atas_deploy.core.masks.merged import as_grid, plan_merge
from atas_deploy.core.refine import REACH, affinity, pamr

_AT_ONCE = 4  # maps in memory at once; more threads would wait for the memory anyway
_BAND = 2_000_000  # pixels refined at once


def refined_label_map(
    dense: FloatArray,
    queries: FloatArray,
    query_class: npt.NDArray[np.intp],
    *,
    image: npt.NDArray[np.uint8],
    size: Size,
    threshold: float | None = None,
) -> LabelMap:
    """Label every pixel after PAMR at the size of the encoder's input.

    Logits are interpolated to that size, refined, and interpolated to the output, one query after
    the other: memory O(H W), time O(Q H W). Scores are means over pixels.

    Args:
        dense: (h, w, D) features of the grid.
        queries: (D, Q) text features times the logit scale.
        query_class: (Q,) class of each query, ascending.
        image: (H', W', 3) uint8 RGB, the encoder's input.
        size: (H, W) of the output.
        threshold: least probability of a pixel that keeps its class; None keeps all.
    """
    weights = affinity(image)
    fitted = image.shape[0], image.shape[1]

    def refined(q: int) -> FloatArray:
        return interpolate(pamr(interpolate(dense @ queries[:, q], fitted), weights), size)

    won, probability = strongest(_in_turn(refined, len(query_class)), size)
    return _label(won, probability, query_class, threshold)


def refined_merged_label_map(
    dense: FloatArray,
    queries: FloatArray,
    query_class: npt.NDArray[np.intp],
    *,
    tiles: Tiles,
    image: npt.NDArray[np.uint8],
    size: Size,
    threshold: float | None = None,
) -> LabelMap:
    """Label every pixel by the logits of windows merged pixel by pixel, after PAMR at full size.

    The colours are those of the resized image, interpolated to the output. Bands of rows with a
    margin as wide as PAMR reaches are refined one after the other, each query after the other:
    exact, memory O(H W), time O(Q H W). Scores are means over pixels.

    Args:
        dense: (R, C, h, w, D) features of the windows.
        queries: (D, Q) text features times the logit scale.
        query_class: (Q,) class of each query, ascending.
        tiles: where the windows lie in the resized image.
        image: (H', W', 3) uint8 RGB, the resized image.
        size: (H, W) of the output.
        threshold: least probability of a pixel that keeps its class; None keeps all.

    Source: NACLIP `naclip.py`, SCLIP `clip_segmentor.py`: both refine at the size of the output.
    """
    grid, merge = as_grid(dense), plan_merge(tiles, (dense.shape[2], dense.shape[3]), size)
    colours = np.stack([interpolate(channel, size) for channel in np.moveaxis(image, 2, 0)], -1)
    won, probability = np.empty(size, np.int32), np.empty(size, np.float32)
    step = max(64, _BAND // size[1])
    for top in range(0, size[0], step):
        band = slice(top, min(top + step, size[0]))
        around = slice(max(0, top - REACH), band.stop + REACH)
        inner = slice(band.start - around.start, band.stop - around.start)
        weights = affinity(colours[around])

        def refined(q: int) -> FloatArray:
            logits = merge.rows[around] @ (grid @ queries[:, q]) @ merge.columns.T  # noqa: B023
            return pamr(logits, weights)[inner]  # noqa: B023

        maps = _in_turn(refined, len(query_class))
        won[band], probability[band] = strongest(maps, won[band].shape)
    return _label(won, probability, query_class, threshold)


def _in_turn(refined: Callable[[int], FloatArray], count: int) -> Iterator[FloatArray]:
    """Maps of all queries, a few worked out at once."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, count, _AT_ONCE):
            yield from pool.map(refined, range(start, min(start + _AT_ONCE, count)))


def _label(
    won: npt.NDArray[np.int32],
    probability: FloatArray,
    query_class: npt.NDArray[np.intp],
    threshold: float | None,
) -> LabelMap:
    scores = class_scores(
        query_class[won], probability, classes=int(query_class[-1]), threshold=threshold
    )
    labels = as_labels(query_class)[won]
    labels[probability < (threshold or 0)] = 0
    return LabelMap(labels, scores, probability)

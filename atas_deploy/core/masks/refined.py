"""Label maps with every query's map refined by PAMR before they are compared.

H W pixels, h w grid, D embedding width, Q queries
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size
from atas_deploy.core.masks.definition import (
    FloatArray,
    LabelMap,
    as_labels,
    class_scores,
    interpolate,
    strongest,
)
from atas_deploy.core.refine import affinity, pamr

_AT_ONCE = 4  # maps in memory at once; more threads would wait for the memory anyway


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

    def maps() -> Iterator[FloatArray]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(query_class), _AT_ONCE):
                yield from pool.map(refined, range(start, min(start + _AT_ONCE, len(query_class))))

    won, probability = strongest(maps(), size)
    classes = query_class[won]
    scores = class_scores(classes, probability, classes=int(query_class[-1]), threshold=threshold)
    labels = as_labels(query_class)[won]
    labels[probability < (threshold or 0)] = 0
    return LabelMap(labels, scores, probability)

"""Regions to one vector each, from the dense features of their picture.

K regions, H W pixels, h w grid, D embedding width
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.region import Region
from atas_deploy.core.regions import pool_boxes, pool_masks
from atas_deploy.runtime.encode import Encoded

FloatArray = npt.NDArray[np.float32]
_PIXELS, _CELLS = 2**26, 2**24  # of decoded masks, and their weights, in memory


def pool_regions(encoded: Encoded, regions: Sequence[Region]) -> FloatArray:
    """Embed regions: those with a mask by mask pooling, boxes by RoIAlign.

    Masks are decoded some at a time, so that thousands of them take no more memory than a few.

    Args:
        encoded: the picture with its features.
        regions: K of them.

    Returns:
        (K, D) float32, L2-normalised; zeros for a region without area or outside the picture.

    Raises:
        ConfigError: the features are those of windows that are merged as pixels.
        InputError: a box is not four finite numbers.
    """
    dense, (height, width) = one_map(encoded), encoded.size
    pooled = np.empty((len(regions), dense.shape[-1]), np.float32)
    boxes = [index for index, region in enumerate(regions) if region.rle is None]
    masks = [index for index, region in enumerate(regions) if region.rle is not None]
    found = [regions[index].box for index in boxes]
    pooled[boxes] = pool_boxes(dense, found, size=encoded.size)
    cells = dense.shape[0] * dense.shape[1]
    step = max(1, min(_PIXELS // (height * width), _CELLS // cells))
    for start in range(0, len(masks), step):
        some = masks[start : start + step]
        pooled[some] = pool_masks(dense, [regions[index].mask() for index in some])
    return pooled


def one_map(encoded: Encoded) -> FloatArray:
    """The features of a picture as one map (h, w, D).

    Raises:
        ConfigError: they are those of windows that are merged as pixels.
    """
    if encoded.tiles is not None:
        raise ConfigError(
            "Regions cannot be read from windows that are merged as pixels; merge features."
        )
    return encoded.dense

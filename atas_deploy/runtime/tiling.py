"""Features of sliding windows, a few of them encoded at once.

B images, H W pixels, h w grid, D embedding width, R C windows down and across
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size, Tiles, resize_bilinear, window_starts
from atas_deploy.runtime.windows import Windows

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
Encode = Callable[[Image], FloatArray]
"""(N, H, W, 3) uint8 RGB -> (N, h, w, D) float32."""


def mean_over_windows(
    encode: Encode, batch: Image, windows: Windows, *, cell: int, batch_size: int
) -> FloatArray:
    """Encode windows on the grid; a cell gets the mean over those that cover it.

    Args:
        encode: the encoder.
        batch: (B, H, W, 3) uint8 RGB.
        windows: how to cut it.
        cell: pixels along a cell of the grid.
        batch_size: windows encoded at once.

    Returns:
        (B, h, w, D), not normalised again, so that logits are the means of the windows' logits.
    """
    h, w = batch.shape[1] // cell, batch.shape[2] // cell
    rows, columns = (
        [slice(start, start + min(windows.side, length)) for start in starts]
        for length in (h, w)
        for starts in [window_starts(length, window=windows.side, stride=windows.stride)]
    )
    places = [(i, y, x) for i in range(len(batch)) for y in rows for x in columns]
    total = np.zeros((0,), np.float32)
    covered = np.zeros((len(batch), h, w, 1), np.float32)
    for first in range(0, len(places), batch_size):
        some = places[first : first + batch_size]
        features = encode(
            np.stack([batch[i, _pixels(y, cell), _pixels(x, cell)] for i, y, x in some])
        )
        if not first:
            total = np.zeros((*covered.shape[:3], features.shape[-1]), np.float32)
        for place, window in zip(some, features, strict=True):
            total[place] += window
            covered[place] += 1
    total /= covered
    return total


def _pixels(cells: slice, cell: int) -> slice:
    return slice(cell * cells.start, cell * cells.stop)


def encode_tiles(
    encode: Encode, batch: Image, tiles: Tiles, *, fitting: Size, batch_size: int
) -> FloatArray:
    """Encode windows anywhere, and keep the features of each.

    Args:
        encode: the encoder.
        batch: (B, H, W, 3) uint8 RGB.
        tiles: where the windows lie.
        fitting: (height, width) to which their pixels are stretched.
        batch_size: windows encoded at once.

    Returns:
        (B, R, C, h, w, D).
    """
    height, width = tiles.window
    places = [(i, y, x) for i in range(len(batch)) for y in tiles.rows for x in tiles.columns]
    found = np.zeros((0,), np.float32)
    for first in range(0, len(places), batch_size):
        pixels = [
            resize_bilinear(batch[i, y : y + height, x : x + width], fitting)
            for i, y, x in places[first : first + batch_size]
        ]
        features = encode(np.stack(pixels))
        if not first:
            found = np.empty((len(places), *features.shape[1:]), np.float32)
        found[first : first + len(features)] = features
    return found.reshape(len(batch), len(tiles.rows), len(tiles.columns), *found.shape[1:])

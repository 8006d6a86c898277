"""Features and maps in few bytes, as the page holds them.

h w grid, D embedding width
"""

import base64
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.runtime.visual.maps import FloatArray, resize_cells, unit

MAX_BYTES = 15_000_000
"""Bytes of features that a page holds, all models together; 20 MB as text."""

_LEAST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Vectors in 8 bits.

    Attributes:
        values: (h, w, D) int8, from -127 to 127.
        scales: (h, w) float32; a vector is its values times its scale.
    """

    values: npt.NDArray[np.int8]
    scales: FloatArray


def pack(dense: FloatArray) -> Packed:
    """Round each vector of (h, w, D) to 255 steps between its largest value and its negative."""
    scales = np.maximum(np.abs(dense).max(axis=-1), _LEAST) / np.float32(127)
    return Packed(np.rint(dense / scales[..., None]).astype(np.int8), scales.astype(np.float32))


def fit(dense: FloatArray, most: int) -> FloatArray:
    """Average cells (h, w, D) of unit vectors to a coarser grid of up to `most` values if needed.

    Returns:
        (h', w', D) float32 unit vectors; the very same array where it fits.
    """
    h, w = dense.shape[:2]
    if dense.size <= most:
        return dense
    factor = math.sqrt(most / dense.size)
    grid = max(1, math.floor(h * factor)), max(1, math.floor(w * factor))
    return unit(resize_cells(dense, grid))


def levels(values: FloatArray, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Values from `low` to `high` as 0 to 255."""
    share = (values - low) / max(high - low, _LEAST)
    return np.asarray(np.rint(255 * share.clip(0, 1)), np.uint8)


def text(array: npt.NDArray[np.generic]) -> str:
    """The bytes of an array, little-endian, in base64."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(np.ascontiguousarray(little).tobytes()).decode("ascii")

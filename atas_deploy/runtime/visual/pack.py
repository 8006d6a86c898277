"""Features and maps in few bytes, as the page holds them.

h w grid, D embedding width
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.vectors import unit
from atas_deploy.runtime.visual.maps import FloatArray, resize_cells

MAX_BYTES = 15_000_000
"""Bytes of features and maps that a page holds, all models together; 20 MB as text."""

_OWN_BYTES = 8  # of a cell beside its features: a scale, a colour and a cluster
_WORD_BYTES = 2  # of a cell for each word: a probability and a cosine
_FEWEST_WORDS = 64  # that a page has, if that many were given, however large its grids

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


def words_that_fit(shapes: Sequence[tuple[int, ...]], words: int) -> int:
    """How many words a page can have without a coarser grid for them; `_FEWEST_WORDS` always.

    Args:
        shapes: (h, w, D) of the features of each model.
        words: how many there are.
    """
    each = MAX_BYTES // len(shapes)
    room = min((each // (h * w) - width - _OWN_BYTES) // _WORD_BYTES for h, w, width in shapes)
    return min(words, max(room, _FEWEST_WORDS))


def cells_that_fit(width: int, words: int, *, models: int) -> int:
    """How many cells a page can have of each model, of embedding width D, with its words."""
    return MAX_BYTES // models // (width + _OWN_BYTES + _WORD_BYTES * words)


def fit(dense: FloatArray, cells: int) -> FloatArray:
    """Average unit vectors (h, w, D) to a coarser grid of up to so many cells if needed.

    Returns:
        (h', w', D) float32 unit vectors; the very same array where it fits.
    """
    h, w = dense.shape[:2]
    if h * w <= cells:
        return dense
    factor = math.sqrt(cells / (h * w))
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

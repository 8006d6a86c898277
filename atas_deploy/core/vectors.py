"""Vectors of unit length."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Float = TypeVar("Float", np.float32, np.float64)

_LEAST = 1e-12  # a shorter vector counts as zero


def unit(vectors: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Bring vectors (..., D) to unit length, in a new array; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _LEAST), vectors.dtype)

"""Which pixels of an image make a pixel of the stretched one, and with which weights.

Every way to stretch is separable: one table for each axis. These are the definitions that OpenCV's
`resize` follows in fixed-point arithmetic.

N pixels of the source, M of the target, K taps
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size

Places = npt.NDArray[np.float64]
_SHARPNESS = -0.75  # of the cubic


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """One axis. Pixel i is the sum of weights[i, k] * source[first[i] + k], edges repeated.

    Attributes:
        first: (M,) int32, may be negative.
        weights: (M, K) float32; each row sums to 1.
    """

    first: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]


def resize_taps(source: Size, target: Size) -> tuple[Taps, Taps]:
    """The taps of rows and columns, as `atas_deploy.core.geometry.resize_image` has them.

    An image that loses pixels is averaged over areas if both sides shrink; if one grows OpenCV
    interpolates linearly. Else the interpolation is bicubic.
    """
    if target[0] * target[1] >= source[0] * source[1]:
        axis = _cubic if source != target else _area
    else:
        axis = _area if target[0] <= source[0] and target[1] <= source[1] else _linear
    rows, columns = (axis(n, m) for n, m in zip(source, target, strict=True))
    return rows, columns


def _area(source: int, target: int) -> Taps:
    """The share of a target pixel that each source pixel covers."""
    scale = source / target
    low = np.arange(target) * scale
    first = np.floor(low).astype(np.int32)
    count = int((np.ceil(low + scale) - first).max())
    pixel = first[:, None] + np.arange(count)
    ends = np.minimum(pixel + 1, (low + scale)[:, None])
    weights = np.maximum(ends - np.maximum(pixel, low[:, None]), 0)
    weights[weights < 1e-6] = 0  # rounding of the edges
    return _taps(first, weights)


def _linear(source: int, target: int) -> Taps:
    """OpenCV's `INTER_AREA` where an axis grows: areas are kept only roughly."""
    growth = target / source
    first = np.floor(np.arange(target) * (1 / growth)).astype(np.int32)  # rounded as OpenCV does
    beyond = (np.arange(1, target + 1) - (first + 1) * growth).astype(np.float32)
    part = np.where(beyond <= 0, 0, beyond - np.floor(beyond))
    return _taps(first, np.stack([1 - part, part], axis=1))


def _cubic(source: int, target: int) -> Taps:
    """Cubic convolution, half-pixel centres.

    Source: R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    place = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(place).astype(np.int32) - 1
    away = np.abs(place[:, None] - (first[:, None] + np.arange(4)))
    near = (_SHARPNESS + 2) * away**3 - (_SHARPNESS + 3) * away**2 + 1
    far = _SHARPNESS * (away**3 - 5 * away**2 + 8 * away - 4)
    return _taps(first, np.where(away <= 1, near, far))


def _taps(first: npt.NDArray[np.int32], weights: Places) -> Taps:
    normal = weights / weights.sum(axis=1, keepdims=True)
    return Taps(first, normal.astype(np.float32))

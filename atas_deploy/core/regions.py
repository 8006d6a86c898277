"""One embedding for a box or a mask, from dense features, as in CLIPSelf.

Boxes are (x0, y0, x1, y1) and masks lie in the picture that was encoded, whatever its size; both
are scaled to the grid here. `atas_deploy.clip.regions` is the same in PyTorch.

Source: Wu et al., "CLIPSelf", ICLR 2024, section 3; He et al., "Mask R-CNN", ICCV 2017 (RoIAlign).

K regions, H W pixels, h w grid, D embedding width
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.core.geometry import Size
from atas_deploy.core.vectors import Float, unit

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ROUNDING = 1e-10  # a bicubic value up to this is zero
_TAPS = np.arange(-1, 3)  # pixels around a position that bicubic interpolation reads
_FAR = 1e6  # cells; boxes that reach farther are cut there
_AT_ONCE = 4_000_000  # weights in memory


def pool_boxes(
    dense: npt.NDArray[Float], boxes: npt.ArrayLike, *, size: Size
) -> npt.NDArray[Float]:
    """Embed boxes: RoIAlign to one cell, then L2 normalisation.

    Args:
        dense: (h, w, D) features of a picture; unit vectors in CLIPSelf.
        boxes: (K, 4) xyxy in pixels of the picture; they may reach outside.
        size: (H, W) of the picture in pixels; (1, 1) for boxes in [0, 1].

    Returns:
        (K, D), L2-normalised; zeros for a box without area or outside the picture.

    Raises:
        InputError: the boxes are not (K, 4) finite numbers.
    """
    (h, w), (height, width) = dense.shape[:2], size
    cells = check_boxes(boxes) * [w, h, w, h] / [width, height, width, height]
    return unit(roi_align(dense, cells))


def pool_masks(dense: npt.NDArray[Float], masks: Mask | Sequence[Mask]) -> npt.NDArray[Float]:
    """Embed masks: the mean over the cells of each, then L2 normalisation.

    A cell belongs to a mask if the mask, interpolated bicubically (a = -0.75, no antialias) at the
    centre of the cell, is above 0. A mask so small or thin that it has no cell (CLIPSelf gives
    zeros then) gets the mean over the cells that its pixels lie in, weighted by their number.

    Args:
        dense: (h, w, D) features of a picture; unit vectors in CLIPSelf.
        masks: (K, H, W) bool, or K arrays (H, W) bool, which may differ in size.

    Returns:
        (K, D), L2-normalised; zeros for an empty mask.

    Raises:
        InputError: a mask is not (H, W).
    """
    h, w, width = dense.shape
    shares = np.zeros((len(masks), h * w), dense.dtype)
    for share, mask in zip(shares, masks, strict=True):
        share[:] = _mask_cells(mask, (h, w)).ravel()
    return unit(shares @ dense.reshape(-1, width))


def roi_align(dense: npt.NDArray[Float], boxes: npt.ArrayLike) -> npt.NDArray[Float]:
    """Mean of bilinear samples inside each box, in the arithmetic of `dense`.

    Equal to torchvision's `roi_align` with one output cell, `aligned` and `sampling_ratio` -1:
    ceil(height) x ceil(width) samples, evenly spaced; those more than a cell beyond the centre of
    an outer cell count as zero, nearer ones as that cell. The samples form a lattice, so cells are
    weighted an axis at a time. A negative width or height, where torchvision fails, gives zeros.

    Args:
        dense: (h, w, D) float32 or float64.
        boxes: (K, 4) xyxy in cells of the grid: (0, 0, w, h) is all of it.

    Returns:
        (K, D); zeros for a box without area or outside the grid.

    Raises:
        InputError: the boxes are not (K, 4) finite numbers.
    """
    h, w, width = dense.shape
    edges = check_boxes(boxes).clip(-_FAR, _FAR).astype(dense.dtype) - dense.dtype.type(0.5)
    cells = dense.reshape(-1, width)
    pooled = np.empty((len(edges), width), dense.dtype)
    step = max(1, _AT_ONCE // (4 * (h + w) + h * w))
    for start in range(0, len(edges), step):
        some = edges[start : start + step]
        rows = _axis_weights(some[:, 1], some[:, 3], length=h)
        columns = _axis_weights(some[:, 0], some[:, 2], length=w)
        weights = (rows[:, :, None] * columns[:, None]).reshape(len(some), -1)
        pooled[start : start + step] = weights @ cells
    return pooled


def check_boxes(boxes: npt.ArrayLike) -> FloatArray:
    """Boxes as (K, 4) float64.

    Raises:
        InputError: they are not (K, 4) finite numbers.
    """
    array = np.asarray(boxes, np.float64)
    array = array.reshape(0, 4) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise InputError(f"Got boxes of shape {array.shape}; expected (K, 4) finite numbers, xyxy.")
    return array


def _mask_cells(mask: Mask, grid: tuple[int, int]) -> FloatArray:
    """Share of each cell (h, w) in a mask (H, W), summing to 1; zeros for an empty mask.

    Raises:
        InputError: the mask is not (H, W).
    """
    mask = np.asarray(mask) != 0
    if mask.ndim != 2 or mask.size == 0:
        raise InputError(
            f"Got a mask of shape {mask.shape}; expected (H, W) with a pixel at least."
        )
    cells = (resize_bicubic(mask, grid) > ROUNDING).astype(np.float64)
    if not cells.any():
        y, x = (i * n // side for i, n, side in zip(mask.nonzero(), grid, mask.shape, strict=True))
        np.add.at(cells, (y, x), 1)
    cells /= max(cells.sum(), 1)
    return cells


def resize_bicubic(values: Mask | FloatArray, size: Size) -> FloatArray:
    """Resize (H, W) bicubically: a = -0.75, half-pixel centres, edges repeated, no antialias.

    PyTorch's and OpenCV's, in float64 and with exact positions.
    """
    (rows, row_weights), (columns, column_weights) = (
        _bicubic_axis(old, new) for old, new in zip(values.shape, size, strict=True)
    )
    by_row = (row_weights[:, :, None] * values[rows]).sum(axis=1)
    resized: FloatArray = (column_weights * by_row[:, columns]).sum(axis=2)
    return resized


def _axis_weights(
    start: npt.NDArray[Float], end: npt.NDArray[Float], *, length: int
) -> npt.NDArray[Float]:
    """Weight of each cell along an axis: starts and ends (K,) of boxes to (K, length)."""
    one = start.dtype.type
    size = end - start
    count = np.maximum(np.ceil(size), 0)  # samples; torchvision's order of operations from here on
    step = size / np.maximum(count, 1)
    first = np.maximum(np.floor((-1 - start) / np.maximum(step, one(1e-30))) - 1, 0)
    sample = first[:, None] + np.arange(2 * length + 8, dtype=start.dtype)  # steps are over 1/2
    at = start[:, None] + (sample + one(0.5)) * size[:, None] / np.maximum(count, 1)[:, None]
    inside = (sample < count[:, None]) & (at >= -1) & (at <= length)
    at = np.clip(at, 0, length - 1)
    low = np.minimum(at.astype(np.intp), max(length - 2, 0))
    high = np.minimum(low + 1, length - 1)
    upper = at - low
    weights = np.zeros((len(start), length), start.dtype)
    box = np.arange(len(start))[:, None]
    np.add.at(weights, (box, low), np.where(inside, 1 - upper, 0))
    np.add.at(weights, (box, high), np.where(inside, upper, 0))
    weights /= np.maximum(count, 1)[:, None]
    return weights


def _bicubic_axis(old: int, new: int) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """The pixels (new, 4) that each output position reads along an axis, and their weights."""
    position = (2 * np.arange(new) + 1) * old - new  # times 2 * new: a whole number
    whole, rest = np.divmod(position, 2 * new)
    distance = np.abs(_TAPS - (rest / (2 * new))[:, None])
    near = (1.25 * distance - 2.25) * distance**2 + 1
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    weights = np.where(distance <= 1, near, far)
    return np.clip(whole[:, None] + _TAPS, 0, old - 1), weights

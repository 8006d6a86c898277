"""Sizes: how an image is fitted to the encoder's grid, and cut into windows.

H W pixels, P patch size, h w grid of cells; a cell is a patch, or smaller with a patch stride.
Sizes are (height, width) in pixels.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError

Size = tuple[int, int]
MAX_PATCHES = 16_384  # attention over more cells takes tens of gigabytes
MAX_ASPECT = 6  # of the encoder's input; a longer strip is encoded at a smaller scale
_LONG_SIDE = 2_048  # the published protocols let no side grow beyond it
_COARSE = 4  # shrinking by more than this, every pixel must count


def encoder_size(size: Size, *, short_side: int, multiple: int, cell: int | None = None) -> Size:
    """Size at which an image is encoded: its shorter side near `short_side`, ratio kept.

    Each side is stretched to the nearest multiple that the encoder takes, at least one. A strip
    longer than `MAX_ASPECT` short sides is scaled to that length, and no image gets more than
    `MAX_PATCHES` cells.

    Args:
        size: (H, W) of the image.
        short_side: wanted length of the shorter side in pixels.
        multiple: of this, both sides are multiples.
        cell: pixels along a cell of the grid; None = `multiple`.

    Raises:
        ConfigError: `short_side` is shorter than a multiple, or gives more than `MAX_PATCHES` cells
            for a square image.
    """
    cell = cell or multiple
    check_short_side(short_side, multiple=multiple, cell=cell)
    scale = _scale(size, short_side=short_side, longest=MAX_ASPECT * short_side, cell=cell)
    rows, columns = (max(1, round(side * scale / multiple)) for side in size)
    most = MAX_PATCHES * cell**2 // multiple**2
    if rows * columns > most:  # one side was rounded up to a multiple
        rows, columns = min(rows, most // columns or 1), min(columns, most // rows)
    return rows * multiple, columns * multiple


def exact_size(size: Size, *, short_side: int, cell: int) -> Size:
    """Size of an image whose shorter side gets exactly `short_side`, ratio kept, half rounded up.

    The longer side gets at most 2,048 pixels or `MAX_ASPECT` short sides, whichever is more, and
    the image at most `MAX_PATCHES` cells; if it is longer both sides shrink.

    Args:
        size: (H, W) of the image.
        short_side: length of the shorter side in pixels.
        cell: pixels along a cell of the grid.

    Source: the test pipelines of SCLIP, NACLIP and ClearCLIP (mmsegmentation's `Resize`, scale
    (2048, short side), ratio kept).
    """
    longest = max(_LONG_SIDE, MAX_ASPECT * short_side)
    scale = _scale(size, short_side=short_side, longest=longest, cell=cell)
    height, width = (max(1, math.floor(side * scale + 0.5)) for side in size)
    return height, width


def check_short_side(short_side: int, *, multiple: int, cell: int) -> None:
    """Refuse a short side that gives no cell, or too many.

    Raises:
        ConfigError: it does.
    """
    most = math.isqrt(MAX_PATCHES) * cell
    if not multiple <= short_side <= most:
        raise ConfigError(
            f"The short side is {short_side} pixels; expected {multiple} (the least that the model "
            f"takes) to {most}."
        )


def _scale(size: Size, *, short_side: int, longest: int, cell: int) -> float:
    height, width = size
    scale = min(short_side / min(size), longest / max(size))
    cells = height * width * (scale / cell) ** 2
    return scale * math.sqrt(MAX_PATCHES / cells) if cells > MAX_PATCHES else scale


def resize_image(image: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    """Stretch an image (H, W, 3) uint8 to a size: area average to shrink, bicubic to enlarge."""
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return _resize(image, size, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def resize_bilinear(image: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    """Stretch an image (H, W, 3) uint8 to a size as the published protocols do.

    Bilinear, without a filter against aliasing. An image that shrinks to less than a quarter, which
    none of their data sets needs, is averaged over areas: most of its pixels would not count.
    """
    coarse = min(image.shape[0] / size[0], image.shape[1] / size[1]) > _COARSE
    return _resize(image, size, cv2.INTER_AREA if coarse else cv2.INTER_LINEAR)


def _resize(image: npt.NDArray[np.uint8], size: Size, method: int) -> npt.NDArray[np.uint8]:
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    return cv2.resize(image, (size[1], size[0]), interpolation=method).astype(np.uint8, copy=False)


def window_starts(length: int, *, window: int, stride: int) -> list[int]:
    """Where sliding windows begin along an axis; the last one ends with the axis.

    Args:
        length: of the axis, in patches or pixels, as the other two.
        window: length of a window; a longer one is cut to the axis.
        stride: from one window to the next.
    """
    if window >= length:
        return [0]
    return [*range(0, length - window, stride), length - window]


@dataclass(frozen=True, slots=True)
class Tiles:
    """Where the windows of an image lie, all of one size; each row of them has the same columns.

    Attributes:
        size: (H, W) of the image.
        window: (height, width) of every window.
        rows: first pixel row of the windows, R of them.
        columns: first pixel column, C of them.
    """

    size: Size
    window: Size
    rows: tuple[int, ...]
    columns: tuple[int, ...]


def cut_tiles(size: Size, *, window: int, stride: int) -> Tiles:
    """Cut an image into windows of `window` pixels, or less where the image is smaller.

    An axis of length L has max(L - window + stride - 1, 0) // stride + 1 of them, `stride` apart,
    the last one shifted back to end with the image.
    """
    rows, columns = (tuple(window_starts(length, window=window, stride=stride)) for length in size)
    return Tiles(size, (min(window, size[0]), min(window, size[1])), rows, columns)

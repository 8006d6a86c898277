"""Values of grid cells, drawn smoothly over the picture they belong to.

H W pixels, h w grid
"""

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

_DIMMED = 0.5  # share of its own colours that the picture under a heat map keeps
_PIXELS_PER_LINE = 160  # of the frame around a patch


def heat_colors() -> Image:
    """Colours from the lowest to the highest value, (256, 3) uint8 RGB: dark blue to yellow.

    Matplotlib's "inferno": lighter means more, also in grey and for colour-blind viewers.
    """
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[:, 0, ::-1], np.uint8)


def enlarge(cells: FloatArray, size: Size) -> FloatArray:
    """Interpolate cells (h, w) or (h, w, 3) to pixels, bicubically, within their range."""
    enlarged = cv2.resize(cells, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(enlarged, cells.min(), cells.max()), np.float32)


def paint_heat(
    image: Image, cells: FloatArray, *, low: float, high: float, opacity: float
) -> Image:
    """Lay a heat map over a picture, whose colours are dimmed so that they are not taken for heat.

    Args:
        image: (H, W, 3) uint8 RGB.
        cells: (h, w) float32.
        low: value of the darkest colour.
        high: value of the lightest.
        opacity: share of the heat, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    values = (enlarge(cells, (image.shape[0], image.shape[1])) - low) / max(high - low, 1e-12)
    colors = heat_colors()[np.rint(255 * values.clip(0, 1)).astype(np.intp)]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    dimmed = cv2.addWeighted(image, _DIMMED, grey, 1 - _DIMMED, 0)
    return np.asarray(cv2.addWeighted(dimmed, 1 - opacity, colors, opacity, 0), np.uint8)


def paint_colors(image: Image, cells: FloatArray, *, opacity: float) -> Image:
    """Lay colours of cells over a picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        cells: (h, w, 3) float32 RGB in [0, 1].
        opacity: share of these colours, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    colors = enlarge(cells, (image.shape[0], image.shape[1]))
    paint = np.rint(255 * colors.clip(0, 1)).astype(np.uint8)
    return np.asarray(cv2.addWeighted(image, 1 - opacity, paint, opacity, 0), np.uint8)


def strongest_cells(scores: FloatArray, size: Size) -> npt.NDArray[np.uint8]:
    """Which of K scores, interpolated bilinearly, is the largest at each pixel.

    Args:
        scores: (h, w, K) float32, K up to 255.
        size: (H, W).

    Returns:
        (H, W) uint8 from 0 to K - 1, the lowest on ties.
    """
    best = np.full(size, -np.inf, np.float32)
    winner = np.zeros(size, np.uint8)
    for number in range(scores.shape[-1]):
        cells = np.ascontiguousarray(scores[..., number])
        current = cv2.resize(cells, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        np.copyto(winner, np.uint8(number), where=current > best)
        np.maximum(best, current, out=best)
    return winner


def mark_cell(image: Image, cell: tuple[int, int], grid: Size) -> Image:
    """Frame a cell of the grid in white and black.

    Args:
        image: (H, W, 3) uint8 RGB.
        cell: row and column.
        grid: (h, w).

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    marked = image.copy()
    line = max(1, round(min(image.shape[:2]) / _PIXELS_PER_LINE))
    (row, column), (height, width) = cell, image.shape[:2]
    left, right = (round(x * width / grid[1]) for x in (column, column + 1))
    top, bottom = (round(y * height / grid[0]) for y in (row, row + 1))
    for out, color in ((2 * line, (0, 0, 0)), (line, (255, 255, 255))):
        corners = (left - out, top - out), (right + out - 1, bottom + out - 1)
        cv2.rectangle(marked, *corners, color, line)
    return marked

"""Sizes: how an image is fitted to the encoder's patch grid.

H W pixels, P patch size; sizes are (height, width) in pixels.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError

Size = tuple[int, int]
MAX_PATCHES = 16_384  # attention over more patches takes tens of gigabytes
MAX_ASPECT = 6  # of the encoder's input; a longer strip is encoded at a smaller scale


def encoder_size(size: Size, *, short_side: int, patch_size: int) -> Size:
    """Size at which an image is encoded: its shorter side near `short_side`, ratio kept.

    Each side is stretched to the nearest multiple of the patch size, at least one patch. A strip
    longer than `MAX_ASPECT` short sides is scaled to that length, and no image gets more than
    `MAX_PATCHES` patches.

    Args:
        size: (H, W) of the image.
        short_side: wanted length of the shorter side in pixels.
        patch_size: P.

    Raises:
        ConfigError: `short_side` is shorter than a patch, or gives more than `MAX_PATCHES` patches
            for a square image.
    """
    most = math.isqrt(MAX_PATCHES) * patch_size
    if not patch_size <= short_side <= most:
        raise ConfigError(
            f"The short side is {short_side} pixels; expected {patch_size} (one patch) to {most}."
        )
    height, width = size
    scale = min(short_side / min(size), MAX_ASPECT * short_side / max(size))
    patches = height * width * (scale / patch_size) ** 2
    if patches > MAX_PATCHES:
        scale *= math.sqrt(MAX_PATCHES / patches)
    rows, columns = (max(1, round(side * scale / patch_size)) for side in size)
    if rows * columns > MAX_PATCHES:  # one side was rounded up to a patch
        rows, columns = min(rows, MAX_PATCHES // columns or 1), min(columns, MAX_PATCHES // rows)
    return rows * patch_size, columns * patch_size


def resize_image(image: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    """Stretch an image (H, W, 3) uint8 to a size: area average to shrink, bicubic to enlarge."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return np.ascontiguousarray(image)
    shrinks = size[0] * size[1] < height * width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (size[1], size[0]), interpolation=method).astype(np.uint8, copy=False)


def window_starts(length: int, *, window: int, stride: int) -> list[int]:
    """Where sliding windows begin along an axis; the last one ends with the axis.

    Args:
        length: of the axis, in patches.
        window: length of a window, in patches; a longer one is cut to the axis.
        stride: from one window to the next, in patches.
    """
    if window >= length:
        return [0]
    return [*range(0, length - window, stride), length - window]

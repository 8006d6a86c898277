"""Text in pictures: TrueType letters of OpenCV's own fonts (Latin, Greek, Cyrillic, CJK)."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

CAPITALS = 0.72
"""Height of capitals as a share of the letter size."""

_FONT_SHARE = 0.020  # letter size as a share of the square root of the picture's area
_SMALLEST_FONT = 10
_MEASURED_LETTERS = 200  # nothing longer fits anyway
_WEIGHT = 500


def font_size(height: int, width: int) -> int:
    """Size of letters, in pixels, that can be read on a picture of this size."""
    side: float = (height * width) ** 0.5
    return max(_SMALLEST_FONT, round(_FONT_SHARE * side))


@lru_cache(maxsize=4096)
def text_width(text: str, font: int) -> int:
    """Width of a line in pixels, in letters of `font` pixels."""
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), font, _WEIGHT)
    return int(left + width)


def elide(text: str, room: int, font: int) -> str:
    """Shorten a line to a width in pixels, ending it in "…"."""
    if len(text) <= _MEASURED_LETTERS and text_width(text, font) <= room:
        return text
    low, high = 0, min(len(text), _MEASURED_LETTERS)
    while low < high:
        middle = (low + high + 1) // 2
        fits = text_width(text[:middle].rstrip() + "…", font) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low].rstrip() + "…"


def letters(
    size: tuple[int, ...], text: str, start: tuple[int, int], font: int
) -> npt.NDArray[np.uint8]:
    """Draw a line of text as a mask.

    Args:
        size: (H, W) of the mask in pixels.
        text: the line.
        start: (x, y) of its left end on the base line.
        font: size of the letters in pixels.

    Returns:
        (H, W) uint8, 255 inside letters, smooth at their edges.
    """
    mask = np.zeros(size, np.uint8)
    cv2.putText(mask, text, start, 255, cv2.FontFace("sans"), font, _WEIGHT)
    return mask


def rounded(size: tuple[int, ...], box: tuple[int, int, int, int], *, radius: int) -> MatLike:
    """Fill a box with round corners: (H, W) uint8, smooth at the corners."""
    mask = np.zeros(size, np.uint8)
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    cv2.rectangle(mask, (left + radius, top), (right - radius, bottom), 255, cv2.FILLED)
    cv2.rectangle(mask, (left, top + radius), (right, bottom - radius), 255, cv2.FILLED)
    for x in (left + radius, right - radius):
        for y in (top + radius, bottom - radius):
            cv2.circle(mask, (x, y), radius, 255, cv2.FILLED, cv2.LINE_AA)
    return mask

"""Pictures for people: classes tinted over the image, with thin outlines."""

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from atas_deploy.core.palette import MAX_CLASSES_8_BIT, void_label
from atas_deploy.media.legend import draw_legend

__all__ = ["blend", "draw_legend", "side_by_side"]

DEFAULT_OPACITY = 0.55
_OUTLINE = 0.8  # share of white in an outline: contrasts with every tint
_PIXELS_PER_HALF_GAP = 360  # as below, of the line between a picture and its overlay
_PIXELS_PER_OUTLINE = 900  # shorter image side for each pixel of its width


def blend(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    palette: npt.NDArray[np.uint8],
    *,
    opacity: float = DEFAULT_OPACITY,
) -> npt.NDArray[np.uint8]:
    """Tint each class in its colour and outline it; background and void keep the image.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) integers: 0 background, 1 to C classes, or void, see `void_label`.
        palette: (C + 1, 3) uint8 RGB.
        opacity: Share of the tint, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    classes = _without_void(labels, num_classes=len(palette) - 1)
    blended = _paint(classes, palette)
    cv2.addWeighted(image, 1 - opacity, blended, opacity, 0, dst=blended)
    cv2.copyTo(image, (classes == 0).view(np.uint8), blended)
    _lighten(blended, _outlines(classes))
    return blended


def side_by_side(
    image: npt.NDArray[np.uint8], overlay: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Put a picture left of its overlay, or above it if it is wider than 2 to 1.

    The white line between them is an even number of pixels wide, so that even sides stay even,
    as video needs them.

    Args:
        image: (H, W, 3) uint8 RGB.
        overlay: (H, W, 3) uint8 RGB.

    Returns:
        (H, 2 W + gap, 3) or (2 H + gap, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    gap = 2 * max(1, round(min(height, width) / _PIXELS_PER_HALF_GAP))
    if width > 2 * height:
        line = np.full((gap, width, 3), 255, np.uint8)
        return np.concatenate([image, line, overlay], axis=0)
    line = np.full((height, gap, 3), 255, np.uint8)
    return np.concatenate([image, line, overlay], axis=1)


def _paint(
    classes: npt.NDArray[np.integer], palette: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Look up the colours of (H, W) classes; those of 8 bits take a third of the time."""
    if classes.dtype != np.uint8:
        return np.take(palette, classes, axis=0)
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = palette
    return np.asarray(cv2.applyColorMap(classes, table), np.uint8)


def _without_void(labels: npt.NDArray[np.integer], *, num_classes: int) -> npt.NDArray[np.integer]:
    """Return the labels in a type that OpenCV has, with void as background."""
    dtype = np.uint8 if num_classes <= MAX_CLASSES_8_BIT else np.uint16
    classes: npt.NDArray[np.integer] = labels.astype(dtype, copy=False)
    void = classes == void_label(num_classes)
    return np.where(void, dtype(0), classes) if void.any() else classes


def _outlines(classes: MatLike) -> MatLike:
    """Draw soft lines where the class changes: (H, W) uint8, 0 to 255."""
    width = max(1, round(min(classes.shape) / _PIXELS_PER_OUTLINE))
    box = np.ones((width + 1, width + 1), np.uint8)
    changes = cv2.compare(cv2.dilate(classes, box), cv2.erode(classes, box), cv2.CMP_NE)
    return cv2.blur(changes, (width + 1, width + 1))


def _lighten(image: npt.NDArray[np.uint8], share: MatLike) -> None:
    """Mix white into an image, in place: (H, W) uint8 shares, 255 is as much as an outline has."""
    keep = cv2.convertScaleAbs(share, alpha=-_OUTLINE, beta=255)
    cv2.bitwise_not(image, dst=image)
    cv2.multiply(image, cv2.merge([keep] * 3), dst=image, scale=1 / 255)
    cv2.bitwise_not(image, dst=image)

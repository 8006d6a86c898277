"""The video that is measured on if the user gives none: a view that pans to and fro."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size
from atas_deploy.media.video import VideoWriter

Image = npt.NDArray[np.uint8]
_RATE = Fraction(30)
_MARGIN = 1.25  # sides of the picture, over those of the view
_SWEEP = 60  # frames from one end to the other: a pan is as fast however many there are


def make_clip(
    path: Path, *, size: Size, frames: int, tick: Callable[[], None] = lambda: None
) -> str:
    """Write the clip.

    Args:
        path: of the MP4 file; its folder must exist.
        size: (height, width) in pixels.
        frames: how many.
        tick: called behind each.

    Returns:
        What it shows.

    Raises:
        OutputError: it cannot be written.
    """
    photo, what = _photo(), "pan over scikit-learn's sample photo"
    if photo is None:
        photo, what = _synthetic(), "pan over a synthetic picture"
    height, width = (round(_MARGIN * side) for side in size)
    method = cv2.INTER_AREA if width < photo.shape[1] else cv2.INTER_CUBIC
    picture = np.asarray(cv2.resize(photo, (width, height), interpolation=method), np.uint8)
    rng = np.random.default_rng(0)
    with VideoWriter(path, size=size, rate=_RATE) as writer:
        for i in range(frames):
            sweep = abs((i / _SWEEP + 1) % 2 - 1)  # 0 to 1 and back
            writer.write(_with_grain(_view(picture, size, sweep), rng))
            tick()
    return what


def _photo() -> Image | None:
    """The sample photo of scikit-learn, (427, 640, 3) uint8 RGB; None if it is not installed."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        return None
    return np.asarray(load_sample_image("china.jpg"), np.uint8)


def _synthetic() -> Image:
    """Smooth colours with discs of many sizes over them, (427, 640, 3) uint8."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (5, 7, 3), np.uint8)
    picture = np.asarray(cv2.resize(colours, (640, 427), interpolation=cv2.INTER_CUBIC), np.uint8)
    for _ in range(60):
        centre = int(rng.integers(640)), int(rng.integers(427))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.circle(picture, centre, int(rng.integers(4, 70)), colour, -1, cv2.LINE_AA)
    return picture


def _view(picture: Image, size: Size, t: float) -> Image:
    """The view at a time from 0, lower left, to 1, upper right."""
    height, width = size
    y = round((1 - t) * (picture.shape[0] - height))
    x = round(t * (picture.shape[1] - width))
    return picture[y : y + height, x : x + width]


def _with_grain(view: Image, rng: np.random.Generator) -> Image:
    """A view with noise as of a film, without which no frame of a pan would cost a codec much."""
    height, width = view.shape[:2]
    grain = rng.integers(0, 8, (height // 8 + 1, width // 8 + 1, 1), np.uint8).repeat(3, axis=2)
    return np.asarray(cv2.add(view, cv2.resize(grain, (width, height))), np.uint8)

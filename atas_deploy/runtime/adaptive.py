"""Which frames of a video are encoded: each, each N-th, or those that there is need for.

A frame is compared by a thumbnail, a small grey copy without its noise. Optical flow tells where
each of its parts was in the last encoded frame, the key frame. Where the key frame, moved along,
does not look as the new frame does, the frame is new: uncovered, come in from the side, changed, or
another scene. The features that are carried along are wrong there, for as many frames as it lasts;
so the new shares of the frames since the key frame are added up, and when the sum exceeds a level
the encoder runs. Much that is new is encoded at once, a little after a while.
"""

from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.geometry import Size
from atas_deploy.runtime.carry import Motion

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

_SHORT_SIDE = 90  # of thumbnails
_BLUR = 1.0  # of thumbnails: standard deviation in pixels
_ALIKE = 8  # grey values of thumbnails that differ by no more look alike


class Turn(Enum):
    """What is done with a frame whose features are not carried along.

    Attributes:
        ENCODE: the encoder runs.
        HOLD: it gets the result of the frame before.
    """

    ENCODE = "encode"
    HOLD = "hold"


class Chooser:
    """Decides on frame after frame.

    Args:
        every: look at each N-th frame only; those between are held.
        level: sum of the new shares of frames, in [0, 1), up to which they are not encoded; None =
            each frame that is looked at is encoded.
    """

    def __init__(self, *, every: int = 1, level: float | None = None) -> None:
        self._every, self._level = every, level
        self._size: Size = (0, 0)  # of the last frame that was looked at
        self._since = 0  # frames after it
        self._scenes: _Scenes | None = None

    def __call__(self, image: Image) -> Turn | Motion:
        """What to do with the next frame, (H, W, 3) uint8 RGB; a motion = carry features along."""
        height, width = image.shape[:2]
        same = self._size == (height, width)
        self._since += 1
        if same and self._since < self._every:
            return Turn.HOLD
        self._size, self._since = (height, width), 0
        if self._level is None:
            return Turn.ENCODE
        if self._scenes is None or not same:
            self._scenes = _Scenes(self._level)
        return self._scenes.choose(thumbnail(image))


def check_level(level: float | None) -> None:
    """Refuse a level that is no share.

    Raises:
        ConfigError: it is out of range.
    """
    if level is not None and not 0 <= level < 1:
        raise ConfigError(f"The adaptive level is {level}; expected a number in [0, 1).")


class _Scenes:
    """Compares frames of one size by their thumbnails."""

    def __init__(self, level: float) -> None:
        self._level = level
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._key: Image | None = None  # frame that was encoded last
        self._shown: Image | None = None  # frame that the last result is of
        self._share = 0.0  # of it that is new
        self._sum = 0.0  # of the shares of the frames since the key frame

    def choose(self, seen: Image) -> Turn | Motion:
        """What to do with the next frame, given its thumbnail."""
        if self._key is None or self._shown is None:
            return self._encode(seen)
        motion = None
        if differs(seen, self._shown).any():
            start = np.zeros((*seen.shape, 2), np.float32)
            flow = np.asarray(self._flow.calc(seen, self._key, start), np.float32)
            self._share = float(new_parts(seen, self._key, flow).mean())
            motion = Motion(np.asarray(flow / seen.shape[::-1], np.float32))
        self._sum += self._share
        if self._sum > self._level:
            return self._encode(seen)
        if motion is None:
            return Turn.HOLD
        self._shown = seen
        return motion

    def _encode(self, seen: Image) -> Turn:
        self._key = self._shown = seen
        self._share = self._sum = 0.0
        return Turn.ENCODE


def thumbnail(image: Image) -> Image:
    """(H, W, 3) uint8 RGB as (h, w) uint8 grey, its shorter side `_SHORT_SIDE`, without noise."""
    height, width = image.shape[:2]
    scale = min(1.0, _SHORT_SIDE / min(height, width))
    # Optical flow looks at squares of 8 pixels and fails on less.
    size = max(16, round(width * scale)), max(16, round(height * scale))
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), _BLUR), np.uint8)


def differs(a: Image, b: Image) -> npt.NDArray[np.bool_]:
    """Where two thumbnails (h, w) do not look alike, (h, w)."""
    return np.asarray(cv2.absdiff(a, b) > _ALIKE)


def new_parts(seen: Image, key: Image, flow: FloatArray) -> npt.NDArray[np.bool_]:
    """Where a frame is not what the key frame becomes when it moves along.

    Args:
        seen: (h, w) uint8 thumbnail of the frame.
        key: (h, w) uint8 thumbnail of the key frame.
        flow: (h, w, 2) x and y from each pixel of the frame to where it was, in pixels.

    Returns:
        (h, w): places that look otherwise, or that lay outside of the key frame.
    """
    height, width = seen.shape
    y, x = np.mgrid[:height, :width].astype(np.float32) + np.moveaxis(flow, -1, 0)[::-1]
    moved = cv2.remap(key, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    outside = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
    return np.asarray(outside | differs(seen, np.asarray(moved, np.uint8)))

"""Frames as decoders leave them, for those who convert them to RGB by themselves.

H W pixels
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

SITED_LEFT = frozenset({"h264", "hevc"})
"""Codecs whose colours lie at the left one of two pixels unless a stream says otherwise."""

_MATRICES = {1: "bt709", 5: "bt601", 6: "bt601"}  # of AVColorSpace
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_FIRST_HD_HEIGHT = 720  # as in `colour`


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """A frame in 4:2:0 of 8 bits, colours between two rows and at the left one of two columns.

    H and W are even.

    Attributes:
        luma: (H, W) uint8.
        chroma: (H / 2, W) uint8, Cb and Cr in turn.
        matrix: "bt709" or "bt601".
        full_range: whether values use all of 0 to 255, not 16 to 235.
    """

    luma: npt.NDArray[np.uint8]
    chroma: npt.NDArray[np.uint8]
    matrix: str
    full_range: bool

    @property
    def shape(self) -> tuple[int, int, str, bool]:
        """H, W, and what else must be equal in a batch."""
        return (*self.luma.shape, self.matrix, self.full_range)


def planes_of(frame: VideoFrame, size: tuple[int, int]) -> Planes | None:
    """The planes of a frame as it was decoded; None if it is of another kind or size."""
    height, width = frame.height, frame.width
    matrix = _matrix(frame)
    if (height, width) != size or height % 2 or width % 2 or matrix is None:
        return None
    if frame.format.name == "nv12":
        luma, chroma = frame.planes
        pairs = rows_of(chroma, height // 2, width)
    elif frame.format.name in ("yuv420p", "yuvj420p"):
        luma, *halves = frame.planes
        halved = [rows_of(plane, height // 2, width // 2) for plane in halves]
        pairs = np.asarray(cv2.merge(halved), np.uint8).reshape(height // 2, width)
    else:
        return None
    full_range = frame.color_range == _FULL_RANGE or frame.format.name == "yuvj420p"
    return Planes(rows_of(luma, height, width), pairs, matrix, full_range)


def _matrix(frame: VideoFrame) -> str | None:
    """The YUV matrix; where the file does not say, by height as players guess."""
    if frame.colorspace == _UNSPECIFIED:
        return "bt709" if frame.height >= _FIRST_HD_HEIGHT else "bt601"
    return _MATRICES.get(frame.colorspace)


def rows_of(plane: VideoPlane, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A plane in place, without what lies behind each row."""
    step = plane.line_size
    pixels = np.frombuffer(memoryview(plane), np.uint8, height * step)
    return pixels.reshape(height, step)[:, :width]

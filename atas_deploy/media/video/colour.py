"""Between the pixel formats of video and RGB, exact to a level, in as few copies as possible."""

import cv2
import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from atas_deploy.media.video.planes import rows_of

_EXACT_CHROMA = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
"""swscale flags without which colours come out one or two levels too dark."""

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_FIRST_HD_HEIGHT = 720
_QUARTER_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


class ToRgb:
    """Turns decoded frames into upright RGB of one size; transparent parts are laid over white.

    Args:
        size: (height, width) as coded, before turning; frames of another size are scaled.
        turns: Quarter turns, counterclockwise.
    """

    def __init__(self, size: tuple[int, int], *, turns: int) -> None:
        self._size = size
        self._turns = turns
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB."""
        transparent = _has_alpha(frame.format)
        height, width = self._size
        pixels = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgba" if transparent else "gbrp",  # in planes: the same in a third of the time
            src_colorspace=_colorspace(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT_CHROMA,
            threads=1,
        )
        image = _over_white(pixels) if transparent else _merged(pixels)
        return _turned(image, self._turns)


class ToYuv:
    """Turns RGB pictures of one size into limited-range BT.709, padded to even sides.

    Args:
        size: (height, width) of the pictures, in pixels.
        pixel_format: What the encoder takes.
    """

    def __init__(self, size: tuple[int, int], *, pixel_format: str) -> None:
        self._odd = (size[0] % 2, size[1] % 2)
        self._format = pixel_format
        self._reformatter = VideoReformatter()

    def __call__(self, image: npt.NDArray[np.uint8]) -> VideoFrame:
        """Convert an (H, W, 3) uint8 RGB picture, which is not kept."""
        if any(self._odd):
            bottom, right = self._odd
            padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            image = np.asarray(padded, np.uint8)
        rgb = VideoFrame.from_numpy_buffer(np.ascontiguousarray(image, np.uint8), format="rgb24")
        return self._reformatter.reformat(
            rgb,
            format=self._format,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_EXACT_CHROMA,
            threads=1,
        )


def _has_alpha(pixel_format: VideoFormat) -> bool:
    """Tell formats with transparency, among them palettes, whose colours may have it."""
    return pixel_format.has_palette or any(part.is_alpha for part in pixel_format.components)


def _merged(gbrp: VideoFrame) -> npt.NDArray[np.uint8]:
    """Planes of green, blue and red to (H, W, 3) RGB."""
    green, blue, red = (rows_of(plane, gbrp.height, gbrp.width) for plane in gbrp.planes)
    return np.asarray(cv2.merge([red, green, blue]), np.uint8)


def _over_white(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    """A frame in RGBA, (H, W, 3) RGB."""
    rgba = np.asarray(frame.to_ndarray(), np.uint8)
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _turned(image: npt.NDArray[np.uint8], turns: int) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.rotate(image, _QUARTER_TURNS[turns]), np.uint8) if turns else image


def _colorspace(frame: VideoFrame) -> int | None:
    """Name the YUV matrix; where the file does not, guess by height as players do."""
    if frame.colorspace != _UNSPECIFIED:
        return None
    return Colorspace.ITU709 if frame.height >= _FIRST_HD_HEIGHT else Colorspace.ITU601

"""Pictures as text inside other files."""

import base64
import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

_JPEG_QUALITY = 85


def jpeg_uri(image: npt.NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) uint8 RGB as a `data:` address of a JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return _uri("jpeg", data.tobytes())


def palette_uri(labels: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8]) -> str:
    """Labels (H, W) uint8 with colours (K, 3) uint8 RGB as a `data:` address of a palette PNG."""
    image, buffer = Image.fromarray(labels).convert("P"), io.BytesIO()
    image.putpalette(colors.tobytes())
    image.save(buffer, format="PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"

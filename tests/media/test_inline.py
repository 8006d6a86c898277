"""Pictures as text."""

import base64
import io

import numpy as np
from PIL import Image

from atas_deploy.media.inline import jpeg_uri, palette_uri


def decode(uri: str, kind: str) -> np.ndarray:
    """The picture in a `data:` address, (H, W, 3) uint8 RGB."""
    head, data = uri.split(",")
    assert head == f"data:image/{kind};base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_a_jpeg_is_the_picture() -> None:
    """Red stays red."""
    image = np.full((32, 48, 3), (200, 30, 20), np.uint8)
    got = decode(jpeg_uri(image), "jpeg").astype(int)
    np.testing.assert_allclose(got, image, atol=6)


def test_a_palette_png_is_exact() -> None:
    """Each label has its colour."""
    colors = np.array([(1, 2, 3), (200, 100, 50), (0, 255, 0)], np.uint8)
    labels = np.arange(30).reshape(5, 6).astype(np.uint8) % 3
    np.testing.assert_array_equal(decode(palette_uri(labels, colors), "png"), colors[labels])

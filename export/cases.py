"""Inputs for the proof: images and token rows of several sizes and batch sizes.

B images, N texts, L tokens, H W pixels, h w grid
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size, resize_image
from atas_deploy.core.hf_tokenizer import Tokenizer

_LONGEST = 48  # multiples along a side
TEXTS = ("dog", "a photo of a dog.", "three people walk past a shop with a red door in the rain.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cases:
    """What is compared.

    Attributes:
        images: batches (B, H, W, 3) uint8 RGB.
        tokens: batches (N, L) int64.
    """

    images: Sequence[npt.NDArray[np.uint8]]
    tokens: Sequence[npt.NDArray[np.int64]]


def image_cases(
    *, trained_size: Size, multiple: int, photos: Sequence[npt.NDArray[np.uint8]] = ()
) -> list[npt.NDArray[np.uint8]]:
    """Batches of 1 and 3 images at the trained size, a wide, a tall, the flattest and thinnest.

    Grids finer than any tower was trained at, by a small patch stride, are cut: attention over all
    of their cells would not fit into memory.

    Args:
        trained_size: (H, W) in pixels the model was trained at.
        multiple: of this, height and width must be multiples.
        photos: (H, W, 3) uint8 RGB, of any size; synthetic images are always there.

    Returns:
        Arrays (B, H, W, 3) uint8.
    """
    rows, columns = (min(_LONGEST, max(1, round(side / multiple))) for side in trained_size)
    wide = max(1, rows // 3), columns + max(1, columns // 4)
    tall = rows + max(1, rows // 3), max(1, columns // 3)
    flat, thin = (1, min(5, columns + 1)), (min(5, rows + 1), 1)
    grids = dict.fromkeys([(rows, columns), wide, tall, flat, thin])
    sizes = [(h * multiple, w * multiple) for h, w in grids]
    return [batch for size in sizes for batch in image_batches(size, photos)]


def image_batches(
    size: Size, photos: Sequence[npt.NDArray[np.uint8]] = ()
) -> list[npt.NDArray[np.uint8]]:
    """Batches of 1, of 3 and of the rest, all of one size (H, W); (B, H, W, 3) uint8."""
    images = np.stack([*_synthetic(size), *(resize_image(photo, size) for photo in photos)])
    return [images[-1:], images[:3], *([images[3:]] if len(images) > 4 else [])]


def text_cases(tokenizer: Tokenizer) -> list[npt.NDArray[np.int64]]:
    """Token rows: one short, three of different length, three padded to the context length."""
    return [tokenizer(TEXTS[:1]), tokenizer(TEXTS), tokenizer(TEXTS, trim=False)]


def _synthetic(size: Size) -> list[npt.NDArray[np.uint8]]:
    """Noise, a smooth colour gradient and a flat colour, each (H, W, 3) uint8."""
    height, width = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    smooth = np.stack([x, y, 1 - x * y], axis=-1)
    flat = np.full((height, width, 3), (200, 30, 90), np.uint8)
    return [noise, (smooth * 255).astype(np.uint8), flat]

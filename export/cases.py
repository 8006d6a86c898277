"""Inputs for the proof: images and token rows of several sizes and batch sizes.

B images, N texts, L tokens, H W pixels, h w grid
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.core.class_lists import built_in_list
from atas_deploy.core.geometry import Size, resize_image
from atas_deploy.core.hf_tokenizer import Tokenizer
from atas_deploy.core.templates import fill

_LONGEST = 48  # multiples along a side
_MOST = 8  # images in the largest batch
TEXTS = ("dog", "a photo of a dog.", "three people walk past a shop with a red door in the rain.")
CLASSES = "coco-panoptic"
_TEMPLATE = "a photo of {article} {}."

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cases:
    """What is compared.

    Attributes:
        images: batches (B, H, W, 3) uint8 RGB.
        tokens: batches (N, L) int64.
    """

    images: Sequence[Images]
    tokens: Sequence[npt.NDArray[np.int64]]


def image_cases(
    *, trained_size: Size, multiple: int, photos: Sequence[Images] = ()
) -> list[Images]:
    """Batches of 1 and 3 images at the trained size, a wide, a tall, the flattest and thinnest.

    One batch of 8 is small; photos, where there are any, are in batches of their own as well. Grids
    finer than any tower was trained at, by a small patch stride, are cut: attention over all of
    their cells would not fit into memory.

    Args:
        trained_size: (H, W) in pixels the model was trained at.
        multiple: of this, height and width must be multiples.
        photos: (H, W, 3) uint8 RGB, of any size; synthetic images are always there.

    Returns:
        Arrays (B, H, W, 3) uint8.
    """
    rows, columns = _grid(trained_size, multiple)
    wide = max(1, rows // 3), columns + max(1, columns // 4)
    tall = rows + max(1, rows // 3), max(1, columns // 3)
    flat, thin = (1, min(5, columns + 1)), (min(5, rows + 1), 1)
    grids = dict.fromkeys([(rows, columns), wide, tall, flat, thin])
    sizes = [(h * multiple, w * multiple) for h, w in grids]
    batches = [batch for size in sizes for batch in image_batches(size, photos)]
    return [*batches, synthetic(_MOST, sizes[-1])]


def image_batches(size: Size, photos: Sequence[Images] = ()) -> list[Images]:
    """Batches of 1, of 3 and of the rest, all of one size (H, W); (B, H, W, 3) uint8."""
    images = np.stack([*synthetic(3, size), *(resize_image(photo, size) for photo in photos)])
    return [images[-1:], images[:3], *([images[3:]] if len(images) > 4 else [])]


def stored_cases(
    *,
    trained_size: Size,
    multiple: int,
    short_side: int,
    sizes: Sequence[tuple[int, int, int]] = (),
) -> list[Images]:
    """The batches that travel in a bundle: few, small, synthetic.

    One image at the trained size and one at the recommended one, three that are wide, an extreme
    strip as long as twice the trained size, and those asked for.

    Args:
        trained_size: as for `image_cases`.
        multiple: as for `image_cases`.
        short_side: recommended shorter side of the encoder's input in pixels.
        sizes: further (B, H, W).

    Returns:
        Arrays (B, H, W, 3) uint8.
    """
    rows, columns = _grid(trained_size, multiple)
    side = min(_LONGEST, max(1, round(short_side / multiple)))
    wide = max(1, rows // 4), max(2, columns // 2 + 1)
    grids = [(1, rows, columns), (1, side, side), (3, *wide), (1, 1, 2 * columns)]
    shapes = [(count, h * multiple, w * multiple) for count, h, w in grids]
    return [synthetic(count, (h, w)) for count, h, w in dict.fromkeys([*shapes, *sizes])]


def text_cases(tokenizer: Tokenizer) -> list[npt.NDArray[np.int64]]:
    """Token rows: one short, three of different length, three padded to the context length."""
    return [tokenizer(TEXTS[:1]), tokenizer(TEXTS), tokenizer(TEXTS, trim=False)]


def class_cases(tokenizer: Tokenizer) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The classes of COCO panoptic, by which agreement is measured: names and tokens (C, L)."""
    names = [spec.name for spec in built_in_list(CLASSES).specs]
    return names, tokenizer([fill(_TEMPLATE, name) for name in names])


def synthetic(count: int, size: Size) -> Images:
    """Tiles of random colours, noise and a flat colour in turn, (count, H, W, 3) uint8."""
    makers = (_tiles, _noise, _flat)
    return np.stack([makers[i % 3](size, np.random.default_rng(i)) for i in range(count)])


def sample_photos() -> list[Path]:
    """The sample photographs of scikit-learn, if that is installed."""
    spec = find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    return sorted(Path(folders[0], "datasets", "images").glob("*.jpg")) if folders else []


def _grid(size: Size, multiple: int) -> Size:
    """Multiples along both sides, at most `_LONGEST`."""
    rows, columns = (min(_LONGEST, max(1, round(side / multiple))) for side in size)
    return rows, columns


def _tiles(size: Size, rng: np.random.Generator) -> Images:
    """A smooth gradient, a third of it covered by tiles of random colours and sizes."""
    height, width = size
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = (np.stack([x, y, 1 - x * y], axis=-1) * 255).astype(np.uint8)
    for _ in range(12):
        top, left = (int(rng.integers(0, side)) for side in size)
        tall, wide = (int(rng.integers(1, max(2, side // 3))) for side in size)
        image[top : top + tall, left : left + wide] = rng.integers(0, 256, 3)
    return image


def _noise(size: Size, rng: np.random.Generator) -> Images:
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def _flat(size: Size, rng: np.random.Generator) -> Images:
    return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (*size, 3)).copy()

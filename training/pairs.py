"""Image-text pairs: images in a folder or a tar file, captions in a CSV file.

H W pixels of an image, S side of a training crop, B batch
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.media.captions import read_captions
from atas_deploy.media.stored import open_stored

Pixels = npt.NDArray[np.uint8]


@dataclass(kw_only=True)
class Pairs:
    """Images and their captions.

    Attributes:
        names: image names, sorted.
        captions: the captions of each image, at least one.
        read: decodes an image by name, (H, W, 3) uint8 RGB; raises InputError.
        missing: names in the CSV file without an image.
        broken: images that could not be decoded so far, with the reason.
    """

    names: list[str]
    captions: list[list[str]]
    read: Callable[[str], Pixels]
    missing: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def image(self, index: int) -> Pixels | None:
        """Decode an image; None, and a note in `broken`, if that fails."""
        name = self.names[index]
        if name in self.broken:
            return None
        try:
            return self.read(name)
        except InputError as exc:
            self.broken[name] = str(exc)
            return None

    def subset(self, names: Sequence[str]) -> "Pairs":
        """The pairs of some images, in the order given."""
        at = {name: i for i, name in enumerate(self.names)}
        captions = [self.captions[at[name]] for name in names]
        return Pairs(names=list(names), captions=captions, read=self.read)


def open_pairs(images: Path, captions: Path) -> Pairs:
    """Open images with their captions.

    Args:
        images: a folder (searched below, too) or an uncompressed tar file.
        captions: a CSV file with the columns `image` (file name, or path inside the folder or
            tar) and `caption`; several rows may name one image.

    Raises:
        InputError: a file is missing or malformed, no caption has its image, or two images share a
            name that captions have.
    """
    texts = read_captions(captions)
    stored = open_stored(images)
    names = sorted(texts.keys() & stored.names)
    if not names:
        raise InputError(
            f"None of the {len(texts)} images named in {captions} is in {images}; the column "
            '"image" must hold file names.'
        )
    stored.check(names)
    return Pairs(
        names=names,
        captions=[texts[name] for name in names],
        read=stored.read,
        missing=sorted(texts.keys() - stored.names),
    )


def crop(image: Pixels, rng: np.random.Generator, *, size: int, scale: float, mode: str) -> Pixels:
    """Cut a random part of an image and resize it to a square.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: where to cut.
        size: side of the result, S.
        scale: smallest part of each side that is kept, in (0, 1].
        mode: "squash" keeps the image's shape before resizing, so that the whole image is squashed
            into the square; anything else cuts a square, as open_clip's "shortest" does.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    if mode != "squash":
        height = width = min(height, width)
    kept = rng.uniform(scale, 1.0)
    h, w = max(1, round(height * kept)), max(1, round(width * kept))
    top = int(rng.integers(0, image.shape[0] - h + 1))
    left = int(rng.integers(0, image.shape[1] - w + 1))
    part = image[top : top + h, left : left + w]
    if part.shape[:2] == (size, size):
        return part
    shrinks = h > size and w > size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (size, size), interpolation=how), dtype=np.uint8)

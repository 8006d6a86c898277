"""Whole pictures and crops to one vector each: the class token, at the size CLIP was trained on.

N images, S side of the input in pixels, D embedding width
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend
from atas_deploy.core.geometry import resize_image
from atas_deploy.runtime.encode import Image, as_image
from atas_deploy.runtime.settle import check_choice

FITS = ("shortest", "longest", "squash")


class ImageEmbedder:
    """Embeds pictures by the class token.

    Args:
        backend: the engine.
        size: S, side of the encoder's square input in pixels.
        width: D.
        fit: how a picture becomes that square, by open_clip's names: "shortest" (CLIP's own: the
            shorter side gets S pixels, the middle is cut out), "longest" (the longer side does, the
            rest is filled with the mean colour: CLIPSelf's crops), or "squash" (SigLIP's).
        fill: mean colour, RGB in [0, 1].
        batch_size: images encoded at once.

    Raises:
        ConfigError: there is no such way to fit.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        size: int,
        width: int,
        fit: str = "shortest",
        fill: Sequence[float] = (0.5, 0.5, 0.5),
        batch_size: int = 1,
    ) -> None:
        check_choice("fit", fit, FITS)
        self.size, self.width, self.fit, self.batch_size = size, width, fit, batch_size
        self._backend = backend
        self._fill = np.round(255 * np.asarray(fill)).astype(np.uint8)

    def __call__(self, images: Iterable[Image | str | Path]) -> npt.NDArray[np.float32]:
        """Embed images: (N, D) float32, L2-normalised.

        Raises:
            InputError: an item is no readable path or (H, W, 3) uint8 array.
            BackendError: the engine fails.
        """
        found = list(self.stream(images))
        return np.stack(found) if found else np.zeros((0, self.width), np.float32)

    def stream(self, images: Iterable[Image | str | Path]) -> Iterator[npt.NDArray[np.float32]]:
        """Embed images as they come, a batch at a time: (D,) float32 each.

        Raises:
            InputError: as for a call.
            BackendError: the engine fails.
        """
        fitted = (self.fit_image(as_image(image)) for image in images)
        while batch := list(islice(fitted, self.batch_size)):
            yield from self._backend.encode_images(np.stack(batch)).image

    def fit_image(self, image: Image) -> Image:
        """Fit (H, W, 3) uint8 to (S, S, 3), see `fit_square`."""
        return fit_square(image, self.size, fit=self.fit, fill=self._fill)


def fit_square(image: Image, side: int, *, fit: str, fill: npt.ArrayLike) -> Image:
    """Fit a picture to a square: area average to shrink, bicubic to enlarge.

    Args:
        image: (H, W, 3) uint8.
        side: S.
        fit: one of `FITS`, see `ImageEmbedder`.
        fill: colour beside it if `fit` is "longest", (3,) uint8.

    Returns:
        (S, S, 3) uint8.
    """
    height, width = image.shape[:2]
    if fit == "shortest":
        kept = min(height, width)
        top, left = (height - kept) // 2, (width - kept) // 2
        image = image[top : top + kept, left : left + kept]
    if fit != "longest":
        return resize_image(image, (side, side))
    scale = side / max(height, width)
    resized = resize_image(image, (max(1, round(height * scale)), max(1, round(width * scale))))
    return _padded(resized, side, fill)


def _padded(image: Image, side: int, fill: npt.ArrayLike) -> Image:
    """Put an image in the middle of a square."""
    square = np.empty((side, side, 3), np.uint8)
    square[:] = fill
    height, width = image.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square

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
        """Fit (H, W, 3) uint8 to (S, S, 3): area average to shrink, bicubic to enlarge."""
        height, width = image.shape[:2]
        if self.fit == "shortest":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            image = image[top : top + side, left : left + side]
        if self.fit != "longest":
            return resize_image(image, (self.size, self.size))
        scale = self.size / max(height, width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        return self._padded(resize_image(image, size))

    def _padded(self, image: Image) -> Image:
        """Put an image in the middle of the square."""
        square = np.empty((self.size, self.size, 3), np.uint8)
        square[:] = self._fill
        height, width = image.shape[:2]
        top, left = (self.size - height) // 2, (self.size - width) // 2
        square[top : top + height, left : left + width] = image
        return square

"""What every inference engine offers.

B images, N texts, L tokens, H W pixels, h w grid, D embedding width
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Features of a batch of images, both L2-normalised.

    Attributes:
        dense: (B, h, w, D) float32, one vector a patch.
        image: (B, D) float32, the class token.
    """

    dense: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]


class Backend(Protocol):
    """A loaded bundle on a device. Arrays go in and out as numpy and belong to the caller."""

    name: str
    device: str

    def encode_images(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB images; H, W are multiples of the patch size."""
        ...

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised."""
        ...

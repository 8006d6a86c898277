"""Flicker: the share of a video's pixels that change class where the picture does not change.

A pixel does not change from a frame to the next if its grey value, blurred by a Gaussian of a
standard deviation of 2 pixels against noise, changes by less than 2 of 255. The inside of a thing
of one colour may move unseen; its class has no reason to change there either.

H W pixels
"""

import cv2
import numpy as np
import numpy.typing as npt

BLUR = 2.0
"""Standard deviation in pixels."""

STILL = 2.0
"""Change of a grey value in [0, 255] from which on a pixel counts as changed."""

FloatArray = npt.NDArray[np.float32]


class Flicker:
    """Counts pixels of consecutive frames.

    Attributes:
        changed: pixels that changed class, but not their looks.
        still: pixels that did not change their looks.
        pixels: pixels that have a frame before them.
    """

    def __init__(self) -> None:
        self.changed, self.still, self.pixels = 0, 0, 0
        self._grey: FloatArray | None = None
        self._labels: npt.NDArray[np.integer] | None = None

    def add(self, image: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer]) -> None:
        """Compare a frame, (H, W, 3) RGB, and its labels (H, W) with the one before.

        A frame of another size than the one before is compared with none.
        """
        grey = blurred_grey(image)
        if self._grey is not None and self._labels is not None and self._grey.shape == grey.shape:
            still = np.abs(grey - self._grey) < STILL
            self.changed += int((still & (labels != self._labels)).sum())
            self.still += int(still.sum())
            self.pixels += still.size
        self._grey, self._labels = grey, labels

    def counts(self) -> list[int]:
        """Changed, still and all pixels."""
        return [self.changed, self.still, self.pixels]


def blurred_grey(image: npt.NDArray[np.uint8]) -> FloatArray:
    """A frame as (H, W) float32 in [0, 255] without its noise."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), BLUR), np.float32)

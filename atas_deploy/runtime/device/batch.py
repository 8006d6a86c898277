"""A batch of pictures on the GPU: its sizes, what its kernels need, and what comes back.

B pictures, H W pixels, H' W' pixels of the encoder's input, h w grid, D embedding width
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size
from atas_deploy.media.video.planes import Planes
from atas_deploy.runtime.device.tools import Tint, Tools

Image = npt.NDArray[np.uint8]
Picture = Image | Planes


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What is equal in batches that share memory.

    Attributes:
        count: B.
        size: (H, W).
        fitted: (H', W').
        grid: (h, w).
        width: D.
        colours: matrix and whether the range is full of `Planes`; None = the pictures are RGB.
    """

    count: int
    size: Size
    fitted: Size
    grid: Size
    width: int
    colours: tuple[str, bool] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What came back of one picture; the arrays are the caller's.

    Attributes:
        labels: (H, W) uint8 or uint16.
        winners: (h, w) int32 winning query of each node.
        probability: (h, w) float32 of it.
        tinted: (H, W, 3) uint8 RGB, the overlay; None if none was asked for.
    """

    labels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    winners: npt.NDArray[np.int32]
    probability: npt.NDArray[np.float32]
    tinted: Image | None


class Plans:
    """What the kernels need for batches of one shape; slots that take turns share it.

    Args:
        tools: of the model.
        shape: of the batches.
        threshold: least probability of a pixel that keeps its class; None = 0.
        tint: how overlays are made; None = there are none.
    """

    def __init__(
        self, tools: Tools, shape: BatchShape, *, threshold: float | None, tint: Tint | None
    ) -> None:
        self.tools, self.shape, self.tint = tools, shape, tint
        self.threshold = threshold or None
        self.resize = tools.kernels.plan_resize(shape.size, shape.fitted)
        self.blend = tools.kernels.plan_blend(shape.size)
        self.palette = None if tint is None else tools.driver.cupy.asarray(tint.palette)
        self._labels: Any = None
        self._generation = 0

    @property
    def labels(self) -> Any:
        """Of the label maps, with room for the words that there is room for."""
        words, shape = self.tools.words, self.shape
        if self._generation != words.generation:
            self._labels = self.tools.kernels.plan_labels(
                shape.grid, shape.size, capacity=words.capacity
            )
            self._generation = words.generation
        return self._labels

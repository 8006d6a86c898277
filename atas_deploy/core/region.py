"""A region of a picture, and the names it got."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle

Box = tuple[float, float, float, float]
Mask = npt.NDArray[np.bool_]
Rle = dict[str, Any]
"""A mask as COCO's compressed run lengths: {"size": [H, W], "counts": bytes}."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """A box, with a mask if there is one, and what its source says about it.

    Attributes:
        box: (x0, y0, x1, y1) in pixels, inside the picture, right and lower ends exclusive.
        rle: the mask; None for a box.
        category: index of its class in the list that its source brought, from 0 on; None if it
            says none.
        track: which object of a video it is; None if unknown.
        source_id: what its source calls it, such as a COCO annotation's id.
        score: confidence of whatever found it, in [0, 1]; None if unknown.
        crowd: whether it stands for many objects at once.
    """

    box: Box
    rle: Rle | None = None
    category: int | None = None
    track: int | None = None
    source_id: int | str | None = None
    score: float | None = None
    crowd: bool = False

    @classmethod
    def from_mask(cls, mask: Mask, **known: Any) -> "Region":
        """A region of a mask (H, W) bool with a pixel at least; its box is the tightest."""
        code = rle.encode(np.asfortranarray(mask, np.uint8))
        x, y, width, height = rle.toBbox(code).tolist()
        return cls(box=(x, y, x + width, y + height), rle=code, **known)

    @property
    def size(self) -> tuple[float, float]:
        """Height and width of the box in pixels."""
        return self.box[3] - self.box[1], self.box[2] - self.box[0]

    def mask(self) -> Mask:
        """Decode the mask: (H, W) bool.

        Raises:
            ValueError: the region is a box.
        """
        if self.rle is None:
            raise ValueError("a box has no mask")
        return np.asarray(rle.decode(self.rle), np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class NamedRegions:
    """The K regions of a picture with the classes found for each, best first.

    Attributes:
        regions: K of them.
        class_names: the C classes asked for.
        labels: (K, T) integers: 0 is background, i is `class_names[i - 1]`. Background comes first
            where a region is none of the classes, and at most once.
        scores: (K, T) float32 in [0, 1], of those labels.
    """

    regions: tuple[Region, ...]
    class_names: tuple[str, ...]
    labels: npt.NDArray[np.intp]
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """K."""
        return len(self.regions)

    def name(self, index: int, rank: int = 0) -> str:
        """Name of a region at a rank, "background" for label 0."""
        label = int(self.labels[index, rank])
        return self.class_names[label - 1] if label else "background"

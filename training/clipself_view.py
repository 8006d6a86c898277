"""What student and teacher of CLIPSelf see of a picture; made where images are loaded.

Regions are the cells of a random grid, or boxes that are given. Order of the steps: regions are cut
out of the picture as it is on disk, resized, filled up with the model's mean colour in 8 bits, and
normalised on the training device. The filling is thus zero to the model, but for rounding (the
paper's way; its code fills with black). The student's picture stands at the upper left of its
square, a crop in the middle.

B pictures, k regions of a picture, K of all of them, H W pixels of a picture, L side of the
student's square, S side of the teacher's

Source: Wu et al., "CLIPSelf", ICLR 2024, section 3; its code, `GridDistillDataset` and
`ProposalDistillDataset`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atas_deploy.core.geometry import resize_image
from atas_deploy.runtime.embed import fit_square
from atas_deploy.runtime.regions.crops import cut_crop
from atas_deploy.training.grids import Boxes, draw_cells
from atas_deploy.training.loader import Draw, Sample, stack
from atas_deploy.training.proposals import Proposals

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipSelfView:
    """What a step sees of a picture.

    Attributes:
        size: L.
        side: S.
        fit: how crops become the teacher's square.
        fill: mean colour, RGB in [0, 255].
        max_grid: most rows and columns of a random grid.
        max_regions: most regions.
        flip: whether to mirror half of the pictures.
        proposals: boxes that are given; None = grids.
        proposal_scale: factor on both sides of those.
    """

    size: int
    side: int
    fit: str
    fill: tuple[int, int, int]
    max_grid: int
    max_regions: int
    flip: bool
    proposals: Proposals | None
    proposal_scale: float

    def __call__(self, image: Pixels, draw: Draw) -> Sample:
        """Cut a picture into the student's view and the teacher's.

        Args:
            image: (H, W, 3) uint8 RGB.
            draw: which sample; its grid, regions and mirroring are drawn from `draw.rng`.

        Returns:
            "picture" (3, L, L) uint8, the student's; "whole" (3, S, S) uint8, the picture as the
            teacher sees it; "boxes" (k, 4) float32 xyxy, regions as shares of the student's square;
            "crops" (k, 3, S, S) uint8, the same regions as the teacher sees them.

        Raises:
            AnnotationError: the proposals are of a picture of another size.
        """
        boxes = self._regions(image, draw)
        if self.flip and draw.rng.random() < 0.5:
            image, boxes = mirror(image, boxes)
        picture = self._resized(image)
        shares = np.array(picture.shape[1::-1] * 2) / (image.shape[1::-1] * 2) / self.size
        square = np.empty((self.size, self.size, 3), np.uint8)
        square[:] = self.fill
        square[: picture.shape[0], : picture.shape[1]] = picture
        return {
            "picture": _planes(square),
            "whole": _planes(self._fitted(image)),
            "boxes": torch.from_numpy((boxes * shares).astype(np.float32)),
            "crops": _planes(self._crops(image, boxes)),
        }

    def _regions(self, image: Pixels, draw: Draw) -> Boxes:
        """Regions (k, 4) xyxy in pixels."""
        size = image.shape[0], image.shape[1]
        if self.proposals is None:
            return draw_cells(size, draw.rng, largest=self.max_grid, most=self.max_regions)
        boxes = self.proposals.of(draw.index, size)
        return boxes[draw.rng.permutation(len(boxes))[: self.max_regions]]

    def _resized(self, image: Pixels) -> Pixels:
        """The picture with L pixels on its longer side."""
        height, width = image.shape[:2]
        scale = self.size / max(height, width)
        return resize_image(image, (max(1, round(height * scale)), max(1, round(width * scale))))

    def _crops(self, image: Pixels, boxes: Boxes) -> Pixels:
        """Regions as the teacher sees them, (k, S, S, 3)."""
        scale = 1.0 if self.proposals is None else self.proposal_scale
        crops = np.empty((len(boxes), self.side, self.side, 3), np.uint8)
        for place, (x0, y0, x1, y1) in zip(crops, boxes.tolist(), strict=True):
            part = cut_crop(image, (x0, y0, x1, y1), scale=scale)
            assert part is not None  # every region has an area inside the picture
            place[:] = self._fitted(part)
        return crops

    def _fitted(self, part: Pixels) -> Pixels:
        return fit_square(part, self.side, fit=self.fit, fill=self.fill)


def collate_regions(samples: Sequence[Sample]) -> Sample:
    """A batch of `ClipSelfView`'s samples, the regions of all pictures one behind the other.

    Returns:
        "picture" (B, 3, L, L), "whole" (B, 3, S, S), "boxes" (K, 4), "crops" (K, 3, S, S), and
        "owner" (K,) int64, the picture that each region is of, in ascending order.
    """
    counts = torch.tensor([len(sample["boxes"]) for sample in samples])
    regions = {key: torch.cat([s[key] for s in samples]) for key in ("boxes", "crops")}
    pictures = stack([{key: s[key] for key in ("picture", "whole")} for s in samples])
    return {**pictures, **regions, "owner": torch.arange(len(samples)).repeat_interleave(counts)}


def mirror(image: Pixels, boxes: Boxes) -> tuple[Pixels, Boxes]:
    """Mirror a picture (H, W, 3) and its boxes (k, 4) xyxy left to right."""
    width = image.shape[1]
    x0, y0, x1, y1 = boxes.T
    return np.ascontiguousarray(image[:, ::-1]), np.stack([width - x1, y0, width - x0, y1], axis=1)


def _planes(pixels: Pixels) -> Tensor:
    """(..., H, W, 3) to (..., 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3)))

"""Boxes that others made, as CLIPSelf's regions.

M images, K boxes of an image, H W pixels
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.geometry import Size
from atas_deploy.media.annotations import Picture, RegionFile, open_boxes
from atas_deploy.media.images import MAX_PIXELS
from atas_deploy.training.grids import Boxes

SMALLEST_AREA = 64.0  # pixels; CLIPSelf leaves smaller boxes out
_IN_TAR = re.compile(r"(\.tar):", re.IGNORECASE)
_ANY_SIZE = (MAX_PIXELS, MAX_PIXELS)  # no picture is larger, so no box is cut


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """The boxes of all images, in little room.

    Attributes:
        path: of the file.
        names: of the images, M.
        boxes: (sum of K, 4) float32 xyxy in pixels, image by image.
        starts: (M + 1,) where the boxes of each image begin.
        sizes: (M, 2) height and width that the file says of each image; 0 where it says none.
    """

    path: Path
    names: Sequence[str]
    boxes: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    def of(self, index: int, size: Size) -> Boxes:
        """The boxes of an image, cut at its border; those too small to show anything are left out.

        Args:
            index: number of the image.
            size: (H, W) of it.

        Returns:
            (K, 4) float64 xyxy in pixels, in the order of the file.

        Raises:
            AnnotationError: the file says another size.
        """
        known = tuple(self.sizes[index].tolist())
        if any(known) and known != size:
            raise AnnotationError(
                f"{self.path}: {self.names[index]} is {known[1]} x {known[0]} pixels there, but "
                f"{size[1]} x {size[0]} in the image file; give the images that the boxes were "
                "made for."
            )
        height, width = size
        boxes = self.boxes[self.starts[index] : self.starts[index + 1]].astype(np.float64)
        boxes = boxes.clip(0, [width, height, width, height])
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return boxes[areas >= min(SMALLEST_AREA, height * width)]


def open_proposals(path: Path, names: Sequence[str]) -> Proposals:
    """Read the boxes of images from COCO JSON: a data set of instances, or a list of results.

    They belong to images by name, see `atas_deploy.media.annotations.matching`, where a tar file
    counts as a folder; a list of results without its data set beside it knows images by numbers
    only.

    Args:
        path: the file.
        names: of the images, M, as `ImageSource` has them.

    Raises:
        InputError: the file cannot be read.
        AnnotationError: it is no COCO JSON, an entry is not as it should be, or no image has a box.
    """
    if path.suffix.casefold() != ".json":
        raise AnnotationError(
            f"{path} is no .json file; give the proposals as COCO JSON, instances or results."
        )
    file = open_boxes(path)
    asked = [_IN_TAR.sub(r"\1/", name) for name in names]
    sizes = [file.image_size(name) for name in asked]
    boxes = [_boxes(file, name, size) for name, size in zip(asked, sizes, strict=True)]
    if not any(len(own) for own in boxes):
        raise AnnotationError(_no_match(path, file, names))
    return Proposals(
        path=path,
        names=names,
        boxes=np.concatenate(boxes),
        starts=np.cumsum([0, *map(len, boxes)], dtype=np.int64),
        sizes=np.array([size or (0, 0) for size in sizes], np.int64),
    )


def _boxes(file: RegionFile, name: str, size: Size | None) -> npt.NDArray[np.float32]:
    """The boxes (K, 4) of an image."""
    regions = file.regions(Picture(name, size or _ANY_SIZE))
    return np.array([region.box for region in regions], np.float32).reshape(-1, 4)


def _no_match(path: Path, file: RegionFile, names: Sequence[str]) -> str:
    """What to say if no image has a box."""
    unmatched = file.unmatched()
    theirs = f"it has {unmatched[0]}" if unmatched else "its entries have no usable box"
    ours = f"the first image is {names[0]}" if names else "there are no images"
    return (
        f"{path} has no box for any of the {len(names)} images: {theirs}, {ours}; give the file "
        "that was made for these images, or correct the names in it."
    )

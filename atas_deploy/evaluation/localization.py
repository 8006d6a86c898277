"""Localization: does a patch know its image, or the region that it lies in?

CLIPSelf's question "Are dense features encoding global images?": the dense feature of a patch is
compared with the class-token embeddings of whole images, its own and 49 others, and with those of
crops of annotated boxes, its own and 49 of other images. Recall at k is the share of patches whose
own is among the k nearest. Features that are local find their region more often, and their image
less often, than features that encode the whole image everywhere.

What the paper leaves open is decided here: a patch is a cell of the feature grid whose centre lies
in an annotated box; where several hold it, the smallest is its region. An image brings a seeded
sample of its patches. Its 49 other images are drawn by the seed and are the same for all its
patches; each of them brings the negative image and, as negative region, one drawn box. Whole images
and crops are both fitted with their longer side, so that nothing is cut off. Equals count against.
Regions are things: stuff is often as large as its
image. Crowd regions and boxes under 8 pixels wide or high do not count.

Source: Wu et al., "CLIPSelf", ICLR 2024, appendix A.1.

P patches, K regions, h w grid, D embedding width
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.core.metrics import rank_among
from atas_deploy.core.region import Box
from atas_deploy.evaluation.dense_facts import encoder_facts
from atas_deploy.evaluation.facts import model_facts
from atas_deploy.evaluation.recall import count_found, recalls
from atas_deploy.evaluation.region_data import Labelled, RegionData
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.runtime.encode import Image
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.pipeline import ahead
from atas_deploy.runtime.regions.crops import cut_crop

Features = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

CANDIDATES = 50
TIE = 1e-6  # cosines in float32 of equal vectors differ less


@dataclass(frozen=True, slots=True, eq=False)
class _Gallery:
    """What patches of other images are compared with: (N, D) each, an image a row."""

    images: Features
    regions: Features


class LocalizationTask:
    """Recall of a patch's image and of its region among 50, see the module.

    Args:
        encoders: the model.
        data: pictures with boxes.
        short_side: of the input for dense features in pixels; None = the model's own.
        patches: most patches of an image that are asked.
        seed: of what is drawn.

    Raises:
        ConfigError: a length that the model cannot take.
    """

    name, unit = "localization", "image"

    def __init__(
        self,
        encoders: Encoders,
        data: RegionData,
        *,
        short_side: int | None = None,
        patches: int = 64,
        seed: int = 0,
    ) -> None:
        self._encoders, self._data = encoders, data
        self._patches, self._seed = patches, seed
        self._dense = encoders.dense(short_side=short_side)
        self._whole = encoders.whole(fit="longest")
        self._width = encoders.bundle.manifest.embed_dim
        self._without = 0
        self.total: int | None = 2 * len(data)  # each picture is read twice

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Embed every image and one region of each, then ask the patches of each image.

        The pictures are read twice, so that memory holds two vectors for each of them.

        Raises:
            InputError: a picture or its annotations cannot be read, or under 50 have a region.
        """
        gallery, members = self._embed_gallery(advance)
        with closing(ahead(iter(self._data))) as pictures:
            for number, picture in enumerate(pictures):
                if (at := members.get(number)) is not None:
                    yield Row(picture.name, self._ask(picture, gallery, at))
                advance()

    def measure(self, totals: Counts) -> dict[str, FloatArray]:
        """Recalls, see the module's `measure`."""
        return measure(totals)

    def facts(self) -> dict[str, Any]:
        """Model, data, settings, and what was left out."""
        return {
            **model_facts(self._encoders.bundle, self._encoders.backend),
            **self._data.facts(),
            "images_without_region": self._without,
            "candidates": CANDIDATES,
            "patches_an_image": self._patches,
            "drawn_with_seed": self._seed,
            **encoder_facts(self._dense),
            "crop_size": self._whole.size,
        }

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """Nothing: there are no classes."""
        return []

    def _embed_gallery(self, advance: Callable[[], None]) -> tuple[_Gallery, dict[int, int]]:
        """The gallery, and for each number of a picture with a region its row there.

        Raises:
            InputError: fewer than 50 pictures have one.
        """
        members: dict[int, int] = {}
        found: list[Features] = []
        with closing(ahead(iter(self._data))) as pictures:
            for number, picture in enumerate(pictures):
                if picture.things:
                    members[number] = len(members)
                    found.append(self._whole(self._image_and_region(picture, number)))
                advance()
        self._without = len(self._data) - len(members)
        if len(members) < CANDIDATES:
            raise InputError(
                f"{len(members)} pictures of {self._data.path} have a region that counts; "
                f"localization needs {CANDIDATES} at least, to draw {CANDIDATES - 1} others from."
            )
        both = np.stack(found)
        return _Gallery(both[:, 0], both[:, 1]), members

    def _image_and_region(self, picture: Labelled, number: int) -> list[Image]:
        """The picture, and a region of it that is drawn."""
        drawn = self._generator(number, 0).integers(len(picture.things))
        return [picture.image, _cut(picture.image, picture.things[drawn].box)]

    def _ask(self, picture: Labelled, gallery: _Gallery, at: int) -> dict[str, list[int]]:
        """Patches of a picture, and how many of them find their image and their region."""
        dense = self._dense(picture.image).dense
        boxes = [region.box for region in picture.things]
        owner = smallest_box(boxes, size=picture.image.shape[:2], grid=dense.shape[:2]).ravel()
        generator = self._generator(at, 1)
        others = draw_others(len(gallery.images), at, generator=generator)
        cells = generator.permutation(np.flatnonzero(owner >= 0))[: self._patches]
        patches = dense.reshape(-1, dense.shape[-1])[cells]
        own_image = np.broadcast_to(gallery.images[at], patches.shape)
        own_regions = self._embed_asked(picture, owner[cells])
        return {
            "patch_to_image": find(patches, own_image, gallery.images[others]),
            "patch_to_region": find(patches, own_regions, gallery.regions[others]),
        }

    def _embed_asked(self, picture: Labelled, asked: IntArray) -> Features:
        """The regions (P,) that patches ask for, each encoded once: (P, D)."""
        needed, place = np.unique(asked, return_inverse=True)
        crops = self._whole(_cut(picture.image, picture.things[index].box) for index in needed)
        return crops[place] if len(needed) else np.zeros((0, self._width), np.float32)

    def _generator(self, *path: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *path])


def measure(totals: Counts) -> dict[str, FloatArray]:
    """Recall at 1, 5 and 10 of image and region.

    Args:
        totals: "patch_to_image" and "patch_to_region", (..., 4) each, see `recalls`.
    """
    return recalls(totals)


def smallest_box(boxes: Sequence[Box], *, size: Sequence[int], grid: Sequence[int]) -> IntArray:
    """Which box each cell belongs to: the smallest that holds its centre, the first of equals.

    Args:
        boxes: xyxy in pixels of the picture.
        size: (H, W) of the picture.
        grid: (h, w) of the features, which cover all of it.

    Returns:
        (h, w) index of a box; -1 where none holds the centre.
    """
    y, x = ((np.arange(n) + 0.5) * length / n for n, length in zip(grid, size, strict=True))
    owner = np.full(tuple(grid), -1, np.intp)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    for index in sorted(range(len(boxes)), key=lambda i: (-areas[i], -i)):
        x0, y0, x1, y1 = boxes[index]
        owner[np.ix_((y >= y0) & (y < y1), (x >= x0) & (x < x1))] = index
    return owner


def draw_others(count: int, own: int, *, generator: np.random.Generator) -> IntArray:
    """49 different numbers below `count` other than `own`, (49,)."""
    drawn = generator.choice(count - 1, CANDIDATES - 1, replace=False)
    return np.asarray(drawn + (drawn >= own), np.intp)


def find(patches: Features, own: Features, others: Features) -> list[int]:
    """Patches, and those whose own is among the first 1, 5 and 10.

    Args:
        patches: (P, D), L2-normalised.
        own: (P, D) what each should find, L2-normalised.
        others: (49, D), L2-normalised.
    """
    return count_found(rank_among((patches * own).sum(axis=1), patches @ others.T, tie=TIE))


def _cut(image: Image, box: Box) -> Image:
    crop = cut_crop(image, box)
    assert crop is not None  # boxes that count lie in the picture
    return crop

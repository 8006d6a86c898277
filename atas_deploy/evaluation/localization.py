"""Localization: does a patch know its image, or the region that it lies in?

CLIPSelf's question "Are dense features encoding global images?": the dense feature of a patch is
compared with the class-token embeddings of 50 whole images, its own among them, and with those of
50 crops of annotated regions, its own region's among them. Recall at k is the share of all patches
of all images whose own is among the k nearest. Features that are local find their region more
often, and their image less often, than features that encode the whole image everywhere.

The protocol is that of CLIPSelf's code:

- every patch asks for its image, and every patch in a thing for the thing;
- a patch lies in a thing if its mask, resized bicubically to the grid, is above 0 there; of several
  masks the last in the file has the patch;
- the 49 others are the next in the order of the file, images or regions of whatever image, and near
  its end those before, too;
- a region's crop is 1.5 times as wide and high as its box.

What is different here: images and crops are embedded by the model under test unless another is
given, at the size its class token was trained at (CLIPSelf: by the model before fine-tuning, whole
images at the size of the dense features); the picture is not padded to a square, so that no patch
lies outside it; crowds have no crop and own no patch; a region without a mask owns the patches
whose centres lie in its box. Equals count against, see `core.metrics.rank_among`.

Source: Wu et al., "CLIPSelf", ICLR 2024, appendix A.1; its code, `COCORetrievalDataset`.

P patches, K regions, h w grid, D embedding width
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.metrics import rank_among
from atas_deploy.core.region import Mask, Region
from atas_deploy.core.regions import ROUNDING, resize_bicubic
from atas_deploy.evaluation.facts import encoder_facts, model_facts
from atas_deploy.evaluation.recall import count_found, recalls
from atas_deploy.evaluation.region_data import LabelledPicture, RegionData
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.runtime.encode import Image
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.pipeline import ahead
from atas_deploy.runtime.regions.crops import cut_crop

Features = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

CANDIDATES = 50


@dataclass(frozen=True, slots=True, eq=False)
class _Gallery:
    """What patches are compared with, in the order of the file.

    Attributes:
        images: (N, D), one each.
        regions: (M, D), those of an image beside each other.
        starts: (N,) the first region of each image.
    """

    images: Features
    regions: Features
    starts: IntArray


def measure(totals: Counts) -> dict[str, FloatArray]:
    """Recall at 1, 5 and 10 of image and region.

    Args:
        totals: "patch_to_image" and "patch_to_region", (..., 4) each, see `recalls`.
    """
    return recalls(totals)


class LocalizationTask:
    """Recall of a patch's image and of its region among 50, see the module.

    Args:
        encoders: the model whose dense features ask.
        data: pictures with regions, of any size.
        targets: the model that embeds images and crops; None = the same. To compare models, give
            one for all of them, in whose space their features lie.
        short_side: of the input for dense features in pixels; None = the model's own.
        crop_scale: factor on both sides of the box that is cut out.
        patches: most patches of an image that ask, drawn from all of them; None = all.
        seed: of what is drawn.

    Raises:
        ConfigError: a length that the model cannot take, or targets of another width.
        InputError: there are under 50 images or regions, or annotations cannot be read.
    """

    name, unit = "localization", "image"
    measure = staticmethod(measure)

    def __init__(
        self,
        encoders: Encoders,
        data: RegionData,
        *,
        targets: Encoders | None = None,
        short_side: int | None = None,
        crop_scale: float = 1.5,
        patches: int | None = None,
        seed: int = 0,
    ) -> None:
        self._encoders, self._targets = encoders, targets or encoders
        self._data, self._crop_scale = data, crop_scale
        self._patches, self._seed = patches, seed
        self._dense = encoders.dense(short_side=short_side)
        self._whole = self._targets.whole(fit="longest")
        self._regions = 0
        self.total: int | None = 2 * len(data)  # each picture is read twice
        width, theirs = (e.bundle.manifest.embed_dim for e in (encoders, self._targets))
        if width != theirs:
            raise ConfigError(
                f"The targets have {theirs} numbers and the model's features {width}; give the "
                "model that it was fine-tuned from."
            )
        _check_enough(data)

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Embed every image and region, then ask the patches of each image.

        The pictures are read twice, so that memory holds a vector for each image and region only.

        Raises:
            InputError: a picture or its annotations cannot be read.
        """
        gallery = self._embed_gallery(advance)
        with closing(ahead(iter(self._data))) as pictures:
            for number, picture in enumerate(pictures):
                yield Row(picture.name, self._ask(picture, gallery, number))
                advance()

    def facts(self) -> dict[str, Any]:
        """Models, data and settings."""
        return {
            **model_facts(self._encoders.bundle, self._encoders.backend),
            "targets": self._targets.bundle.manifest.name,
            "targets_fingerprint": self._targets.bundle.fingerprint[:16],
            **self._data.facts(),
            "regions": self._regions,
            "candidates": CANDIDATES,
            "patches_an_image": self._patches,
            "drawn_with_seed": None if self._patches is None else self._seed,
            **encoder_facts(self._dense),
            "crop_size": self._whole.size,
            "crop_scale": self._crop_scale,
        }

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """Nothing: there are no classes."""
        return []

    def _embed_gallery(self, advance: Callable[[], None]) -> _Gallery:
        """All images and regions."""
        images: list[Features] = []
        regions: list[Features] = []
        counts: list[int] = []
        with closing(ahead(iter(self._data))) as pictures:
            for picture in pictures:
                crops = [self._cut(picture.image, region) for region in picture.things]
                embedded = self._whole([picture.image, *crops])
                images.append(embedded[0])
                regions.extend(embedded[1:])
                counts.append(len(crops))
                advance()
        self._regions = len(regions)
        starts = np.cumsum([0, *counts[:-1]])
        return _Gallery(np.stack(images), np.stack(regions), starts)

    def _cut(self, image: Image, region: Region) -> Image:
        crop = cut_crop(image, region.box, scale=self._crop_scale)
        assert crop is not None  # annotated boxes lie in the picture
        return crop

    def _ask(self, picture: LabelledPicture, gallery: _Gallery, at: int) -> dict[str, list[int]]:
        """Patches of a picture, and how many of them find their image and their region."""
        dense = self._dense(picture.image).dense
        owner = last_owner(picture.things, size=picture.image.shape[:2], grid=dense.shape[:2])
        cells = self._draw(owner.size, at)
        patches, owner = dense.reshape(-1, dense.shape[-1])[cells], owner.ravel()[cells]
        regions = [
            find(patches[owner == index], gallery.regions, gallery.starts[at] + index)
            for index in np.unique(owner[owner >= 0])
        ]
        return {
            "patch_to_image": find(patches, gallery.images, at),
            "patch_to_region": np.sum([[0] * 4, *regions], axis=0).tolist(),
        }

    def _draw(self, cells: int, number: int) -> IntArray:
        """The patches of an image that ask, in order."""
        if self._patches is None or self._patches >= cells:
            return np.arange(cells)
        generator = np.random.default_rng([self._seed, number])
        return np.sort(generator.choice(cells, self._patches, replace=False))


def _check_enough(data: RegionData) -> None:
    """Refuse data with too few images or regions; they are counted until there are enough.

    Raises:
        InputError: they are, or annotations cannot be read.
    """
    regions = 0
    for image in data.images:
        regions += len(data.things(image))
        if regions >= CANDIDATES:
            break
    if min(len(data), regions) < CANDIDATES:
        some = f"{regions} or more" if regions >= CANDIDATES else str(regions)
        missing = f" ({data.missing} are not in the folder)" if data.missing else ""
        raise InputError(
            f"{data.path} has {len(data)} pictures to measure{missing} with {some} things; "
            f"localization needs {CANDIDATES} of each, of which {CANDIDATES - 1} are wrong: raise "
            "--max-images or give more annotated pictures."
        )


def last_owner(regions: Sequence[Region], *, size: Sequence[int], grid: Sequence[int]) -> IntArray:
    """Which region each cell belongs to: the last one that has it.

    Args:
        regions: K of them.
        size: (H, W) of the picture.
        grid: (h, w) of the features, which cover all of it.

    Returns:
        (h, w) index of a region; -1 where there is none.
    """
    owner = np.full(tuple(grid), -1, np.intp)
    for index, region in enumerate(regions):
        owner[_cells(region, size=size, grid=(grid[0], grid[1]))] = index
    return owner


def _cells(region: Region, *, size: Sequence[int], grid: tuple[int, int]) -> Mask:
    """The cells (h, w) of a region."""
    if region.rle is not None:
        return resize_bicubic(region.mask(), grid) > ROUNDING
    y, x = ((np.arange(n) + 0.5) * length / n for n, length in zip(grid, size, strict=True))
    x0, y0, x1, y1 = region.box
    return ((y >= y0) & (y < y1))[:, None] & (x >= x0) & (x < x1)


def find(patches: Features, gallery: Features, own: int) -> list[int]:
    """Patches, and those whose own is among the first 1, 5 and 10 of 50.

    The 49 others are the next in the gallery and, if it ends before, those before their own, too.

    Args:
        patches: (P, D), L2-normalised.
        gallery: (N, D), L2-normalised, 50 at least.
        own: what all of them should find.
    """
    start = min(own, len(gallery) - CANDIDATES)
    cosines = patches @ gallery[start : start + CANDIDATES].T
    others = np.delete(cosines, own - start, axis=1)
    return count_found(rank_among(cosines[:, own - start], others))

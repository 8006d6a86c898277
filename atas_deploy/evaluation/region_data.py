"""Pictures with labelled regions: COCO's panoptic JSON (things and stuff), or instances JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atas_deploy.core.classes import parse_classes
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.region import Region
from atas_deploy.evaluation.coco_data import open_instances, open_panoptic, present
from atas_deploy.evaluation.truth import plain_name
from atas_deploy.media.annotations import CocoFile, CocoImage, Faults, PanopticFile
from atas_deploy.media.images import read_image
from atas_deploy.runtime.encode import Image

AREAS = (8**2, 1024**2)
"""Regions whose box has fewer or more pixels than this do not count, as in CLIPSelf."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPicture:
    """A picture with the regions that count.

    Attributes:
        name: its file name.
        image: (H, W, 3) uint8 RGB.
        things, stuff: regions, each with its category.
        sized, crowd: how many were left out because of their size, and as crowds.
    """

    name: str
    image: Image
    things: tuple[Region, ...]
    stuff: tuple[Region, ...]
    sized: int
    crowd: int


class RegionData:
    """Pictures in a folder with annotations of COCO's.

    Crowd regions do not count (CLIPSelf's code takes them for any other), nor do those whose box is
    under 8² or over 1024² pixels.

    Args:
        images: folder of the pictures.
        panoptic: COCO's panoptic JSON; this or `instances`.
        pngs: folder of its PNGs; None = the one named as the JSON.
        instances: COCO's instances JSON.
        max_images: take the first so many of the pictures that are there; None = all.
        any_size: whether boxes of all sizes count.

    Attributes:
        path: of the annotations.
        images: the pictures, those in the folder.
        missing: how many of the file are not there.
        categories: what `Region.category` counts.
        has_stuff: whether some category is no thing.
        faults: annotations that were left out, as nothing of them can be seen.

    Raises:
        ConfigError: neither or both files are given.
        InputError: one cannot be read, is of the other kind, or no picture is in the folder.
    """

    def __init__(
        self,
        images: Path,
        *,
        panoptic: Path | None = None,
        pngs: Path | None = None,
        instances: Path | None = None,
        max_images: int | None = None,
        any_size: bool = False,
    ) -> None:
        if (panoptic is None) == (instances is None):
            got = "no annotations" if panoptic is None else "both --panoptic and --instances"
            raise ConfigError(f"Got {got}; give either --panoptic or --instances.")
        if panoptic is None and pngs is not None:
            raise ConfigError("PNGs belong to --panoptic; leave --pngs out with --instances.")
        self._folder = images
        self._areas = (0, float("inf")) if any_size else AREAS
        self._file: PanopticFile | CocoFile
        self.faults = Faults()
        if panoptic is not None:
            self.path, self._file = panoptic, open_panoptic(panoptic, pngs)
        elif instances is not None:
            self.path, self._file = instances, open_instances(instances)
            self.faults = self._file.faults
        found = present(self._file.images, images, source=self.path, limit=max_images)
        self.images: Sequence[CocoImage] = found.images
        self.missing = found.missing
        self.categories = self._file.categories
        self.has_stuff = not all(category.thing for category in self.categories)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def __iter__(self) -> Iterator[LabelledPicture]:
        """The pictures in the order of the file."""
        return (self.picture(image) for image in self.images)

    def picture(self, image: CocoImage) -> LabelledPicture:
        """Read a picture and its regions.

        Raises:
            InputError: the picture or its annotations cannot be read, or their sizes differ.
        """
        pixels = read_image(self._folder / image.file_name)
        if pixels.shape[:2] != (image.height, image.width):
            raise InputError(
                f"{self._folder / image.file_name} has {pixels.shape[1]} x {pixels.shape[0]} "
                f"pixels, but {image.width} x {image.height} in {self.path}; give the pictures "
                "that were annotated."
            )
        found = self.regions(image)
        kept = self._counted(found)
        crowd = sum(region.crowd for region in found)
        things, stuff = self._apart(kept)
        sized = len(found) - crowd - len(kept)
        return LabelledPicture(image.file_name, pixels, things, stuff, sized, crowd)

    def things(self, image: CocoImage) -> tuple[Region, ...]:
        """The things of a picture that count, without reading it.

        Raises:
            InputError: its annotations cannot be read.
        """
        return self._apart(self._counted(self.regions(image)))[0]

    def regions(self, image: CocoImage) -> list[Region]:
        """All regions of a picture that have a category.

        Raises:
            InputError: they cannot be read.
        """
        if isinstance(self._file, PanopticFile):
            found = [segment.region for segment in self._file.segments(image)]
        else:
            found = self._file.regions(image)
        return [region for region in found if region.category is not None]

    def words(self, classes: str | Sequence[str] | None = None) -> list[str]:
        """Words for each category, with "|" between synonyms.

        Args:
            classes: a class list with a class for each category, in their order, such as
                "@coco-panoptic:expanded"; None = the categories' own names.

        Raises:
            ConfigError: the list cannot be used, or is longer or shorter, or there is one category.
        """
        if len(self.categories) < 2:
            raise ConfigError(
                f"{self.path} has {len(self.categories)} category, and a region can only be named "
                "right or wrong among several; give annotations with two or more."
            )
        if classes is None:
            return [plain_name(category.name) for category in self.categories]
        specs = parse_classes(classes)
        if len(specs) != len(self.categories):
            raise ConfigError(
                f"Got {len(specs)} classes for the {len(self.categories)} categories of "
                f"{self.path}; give a class for each, in their order, or leave --classes out."
            )
        return ["|".join(spec.synonyms) for spec in specs]

    def facts(self) -> dict[str, Any]:
        """Data, the rule of what counts, and how many annotations are none."""
        first = {"first_left_out": self.faults.sentences[0]} if self.faults.count else {}
        return {
            "annotations": str(self.path),
            "annotations_left_out": self.faults.count,
            **first,
            "images": str(self._folder),
            "images_missing": self.missing,
            "box_areas": None if self._areas[0] == 0 else list(self._areas),
        }

    def _counted(self, regions: Sequence[Region]) -> list[Region]:
        return [region for region in regions if not region.crowd and self._fits(region)]

    def _fits(self, region: Region) -> bool:
        height, width = region.size
        least, most = self._areas
        return height * width > 0 and least <= height * width <= most

    def _apart(self, regions: Sequence[Region]) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        """Things and stuff."""
        thing = [self.categories[region.category or 0].thing for region in regions]
        pairs = list(zip(regions, thing, strict=True))
        return tuple(r for r, yes in pairs if yes), tuple(r for r, yes in pairs if not yes)

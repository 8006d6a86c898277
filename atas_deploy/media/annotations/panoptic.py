"""COCO's panoptic segments: a JSON file and a PNG an image, whose colours are their numbers.

H W pixels
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.region import Region
from atas_deploy.media.annotations.coco_lists import (
    CocoImage,
    Lookup,
    Table,
    need,
    numbered,
    rows_of,
)
from atas_deploy.media.annotations.coco_region import check_size
from atas_deploy.media.annotations.coco_row import Kind, read_coco
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.label_maps import read_png
from atas_deploy.media.annotations.masks import label_rles, tight_box
from atas_deploy.media.annotations.matching import NamedEntries
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile

IdMap = npt.NDArray[np.uint32]
_FEW = 255  # categories; one more value is void


@dataclass(frozen=True, slots=True, eq=False)
class PanopticSegment:
    """A segment: an object, or all that there is of a kind of stuff.

    Attributes:
        region: its mask and the tightest box around it; `category` is an index of `categories`,
            `source_id` its number.
        thing: whether its category is one of things.
    """

    region: Region
    thing: bool


class PanopticFile:
    """A COCO panoptic data set; a PNG is read when its image is asked for.

    Attributes:
        path: of the JSON file.
        png_folder: where the PNGs lie.
        images: in the order of the file.
        categories: in the order of the file.
        ignore_index: what `semantic` calls void: 255, or 65535 if there are more categories.
    """

    def __init__(self, path: Path, data: Any, png_folder: Path | None = None) -> None:
        """Check the data of a file; see `open`."""
        self._lookup = Lookup.read(path, data)
        self.path, self.images, self.categories = path, self._lookup.images, self._lookup.categories
        self.png_folder = path.with_suffix("") if png_folder is None else png_folder
        if not self.png_folder.is_dir():
            raise AnnotationError(
                f"{path}: the folder of its PNGs, {self.png_folder}, does not exist: put it there "
                "or name it"
            )
        self.ignore_index = 255 if len(self.categories) <= _FEW else 65_535
        self._rows: dict[int, Table] = {}
        for _, row in rows_of(path, data, "annotations", "annotation"):
            self._add(row)
        for i, image in enumerate(self.images):
            if i not in self._rows:
                raise self._entry(image).error("has no annotation", "add it or remove the image")

    @classmethod
    def open(cls, path: Path | str, png_folder: Path | str | None = None) -> "PanopticFile":
        """Read and check a file.

        Args:
            path: the JSON file.
            png_folder: where the PNGs lie; None for the folder of the same name beside it, as
                "panoptic/" for "panoptic.json".

        Raises:
            InputError: it cannot be read.
            AnnotationError: it is no panoptic data set, or an entry is not as it should be.
        """
        folder = None if png_folder is None else Path(png_folder)
        return cls(Path(path), read_coco(Path(path)), folder)

    def segments(self, image: CocoImage) -> list[PanopticSegment]:
        """The segments of an image, in the order of the file.

        Raises:
            InputError: its PNG cannot be read.
            AnnotationError: the PNG is of another size, or its segments are others than those of
                the file.
        """
        ids = self._read_ids(image)
        masks = {number: code for number, code in label_rles(ids) if number}
        found = []
        for number, row, category in self._segments(image):
            region = Region(
                box=tight_box(masks[number]),
                rle=masks[number],
                category=category,
                source_id=number,
                crowd=bool(row.get("iscrowd", 0)),
            )
            found.append(PanopticSegment(region, self.categories[category].thing))
        return found

    def semantic(self, image: CocoImage) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """The category of each pixel.

        Returns:
            (H, W) uint8, or uint16 if there are more than 255 categories: index of `categories`;
            `ignore_index` where no segment is.

        Raises:
            InputError: its PNG cannot be read.
            AnnotationError: as for `segments`.
        """
        ids = self._read_ids(image)
        dtype = np.uint8 if self.ignore_index == 255 else np.uint16
        known = sorted((number, category) for number, _, category in self._segments(image))
        numbers = np.array([0] + [number for number, _ in known], np.uint32)
        categories = np.array([self.ignore_index] + [category for _, category in known], dtype)
        labels: npt.NDArray[Any] = categories[np.searchsorted(numbers, ids)]
        return labels

    def region_file(self, kind: Kind) -> RegionFile:
        """The file, asked picture by picture; `kind` "boxes" or "masks"."""

        def read(index: int, picture: Picture) -> list[Region]:
            check_size(self.path, self.images[index], picture)
            regions = [segment.region for segment in self.segments(self.images[index])]
            return [replace(r, rle=None) for r in regions] if kind == "boxes" else regions

        return RegionFile(
            self.path,
            NamedEntries(self.path, [image.file_name for image in self.images]),
            read,
            class_names=[category.name for category in self.categories],
            image_ids=[image.id for image in self.images],
            image_sizes=[image.size for image in self.images],
        )

    def _add(self, row: Table) -> None:
        """Check the annotation of an image."""
        entry = Entry(self.path, f"annotation of image {row.get('image_id')}")
        index = self._lookup.image(row, entry)
        if index in self._rows:
            raise entry.error("is listed twice", "remove one")
        if not isinstance(need(row, "file_name", entry), str):
            raise entry.error("has a file_name that is no text", "correct it")
        if not isinstance(need(row, "segments_info", entry), list):
            raise entry.error('has "segments_info" that is no list', "correct it")
        self._rows[index] = row
        seen: set[int] = set()
        noun = f"image {row['image_id']}, segment"
        for place, segment in numbered(self.path, row["segments_info"], noun):
            number = place.whole(need(segment, "id", place), "id")
            self._lookup.category(segment, place)
            if number in seen or not 0 < number < 1 << 24:
                raise place.error(
                    "is listed twice or not from 1 to 16,777,215",
                    "renumber it here and in the PNG",
                )
            seen.add(number)

    def _segments(self, image: CocoImage) -> list[tuple[int, Table, int]]:
        """Number, row and category of the segments of an image."""
        rows = self._rows[self._lookup.image_index[image.id]]["segments_info"]
        index = self._lookup.category_index
        return [(int(row["id"]), row, index[int(row["category_id"])]) for row in rows]

    def _read_ids(self, image: CocoImage) -> IdMap:
        """The number of the segment of each pixel, (H, W); 0 where there is none."""
        row = self._rows[self._lookup.image_index[image.id]]
        path = self.png_folder / row["file_name"]
        mode, pixels = read_png(path, kind=f"the panoptic PNG of image {image.id}")
        if mode not in ("RGB", "RGBA"):
            raise Entry(path, "the PNG").error(
                f"is of mode {mode}, expected colours (red + 256 green + 65536 blue)",
                "make it again",
            )
        if pixels.shape[:2] != image.size:
            height, width = pixels.shape[:2]
            raise Entry(path, "the PNG").error(
                f"is {width} x {height} pixels, while {self.path} says {image.width} x "
                f"{image.height} of image {image.id}",
                "correct the file or make the PNG again",
            )
        ids: IdMap = pixels[..., :3].astype(np.uint32) @ np.array([1, 256, 65_536], np.uint32)
        self._compare(image, ids, path)
        return ids

    def _compare(self, image: CocoImage, ids: IdMap, path: Path) -> None:
        drawn = set(np.unique(ids).tolist()) - {0}
        listed = {number for number, _, _ in self._segments(image)}
        if extra := drawn - listed:
            raise self._entry(image).error(
                f"has no segment {min(extra)}, which is drawn in {path}", "add it or redraw the PNG"
            )
        if missing := listed - drawn:
            raise self._entry(image).error(
                f"has the segment {min(missing)}, which is not drawn in {path}",
                "remove it or redraw the PNG",
            )

    def _entry(self, image: CocoImage) -> Entry:
        return Entry(self.path, f'image {image.id} ("{image.file_name}")')


def is_panoptic(data: Any) -> bool:
    """Whether the data of a COCO file are of panoptic segments."""
    rows = data.get("annotations") if isinstance(data, dict) else None
    return isinstance(rows, list) and any(
        isinstance(r, dict) and "segments_info" in r for r in rows
    )

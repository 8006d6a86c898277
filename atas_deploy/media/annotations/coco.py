"""COCO's instances and results as JSON: boxes, polygons, run lengths."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Region
from atas_deploy.media.annotations.coco_lists import (
    CocoImage,
    Lookup,
    Row,
    need,
    rows_of,
)
from atas_deploy.media.annotations.coco_region import Kind, check_shape, check_size, read_region
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.matching import NamedEntries
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile
from atas_deploy.media.annotations.text import read_json


class CocoFile:
    """A COCO data set of instances.

    Attributes:
        path: of the file.
        images: in the order of the file.
        categories: in the order of the file.
    """

    def __init__(self, path: Path, data: Any) -> None:
        """Check the data of a file; see `open`."""
        self._lookup = Lookup.read(path, data)
        self.path, self.images, self.categories = path, self._lookup.images, self._lookup.categories
        self._rows: dict[int, list[tuple[Entry, Row]]] = defaultdict(list)
        seen: set[int] = set()
        for entry, row in rows_of(path, data, "annotations", "annotation"):
            number = entry.whole(need(row, "id", entry), "id")
            if number in seen:
                raise entry.error("is listed twice", "remove or renumber one")
            seen.add(number)
            self._lookup.category(row, entry)
            check_shape(row, entry)
            self._rows[self._lookup.image(row, entry)].append((entry, row))

    @classmethod
    def open(cls, path: Path | str) -> "CocoFile":
        """Read and check a file.

        Raises:
            InputError: it cannot be read.
            AnnotationError: it is no COCO data set, or an entry is not as it should be.
        """
        return cls(Path(path), read_json(Path(path)))

    def regions(self, image: CocoImage, *, kind: Kind = "both") -> list[Region]:
        """The regions of an image, `category` an index of `categories`.

        Args:
            image: one of `images`.
            kind: what is wanted: boxes only; masks, and the tightest boxes around them; or each
                box as the file has it and the mask, if there is one.

        Raises:
            AnnotationError: a box or mask lies outside of the image, is damaged or missing.
        """
        rows = self._rows.get(self._lookup.image_index[image.id], [])
        return [self._region(row, entry, image.size, kind) for entry, row in rows]

    def region_file(self, kind: Kind) -> RegionFile:
        """The file, asked picture by picture."""
        return RegionFile(
            self.path,
            NamedEntries(self.path, [image.file_name for image in self.images]),
            lambda index, picture: self.regions(self._same_size(index, picture), kind=kind),
            class_names=[category.name for category in self.categories],
            image_ids=[image.id for image in self.images],
        )

    def _region(self, row: Row, entry: Entry, size: Size, kind: Kind) -> Region:
        category = self._lookup.category(row, entry)
        return read_region(row, entry, size, kind, category=category, source_id=row["id"])

    def _same_size(self, index: int, picture: Picture) -> CocoImage:
        image = self.images[index]
        check_size(self.path, image, picture)
        return image

"""COCO's instances as JSON: boxes, polygons, run lengths."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from atas_deploy.core.region import Region
from atas_deploy.media.annotations.coco_lists import CocoImage, Lookup, need, rows_of
from atas_deploy.media.annotations.coco_region import (
    check_masks,
    check_shape,
    check_size,
    read_region,
)
from atas_deploy.media.annotations.coco_row import Kind, Row, read_coco
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.faults import Faults
from atas_deploy.media.annotations.matching import NamedEntries
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile


class CocoFile:
    """A COCO data set of instances.

    Attributes:
        path: of the file.
        images: in the order of the file.
        categories: in the order of the file.
        faults: annotations that were asked for and left out, with the reasons.
    """

    def __init__(self, path: Path, data: Any, kind: Kind = "both") -> None:
        """Check the data of a file; see `open`.

        Args:
            path: of the file.
            data: as `read_coco` has them.
            kind: what is wanted: boxes only; masks, and the tightest boxes around them; or each
                box as the file has it and the mask, if there is one.
        """
        self._lookup, self._kind, self.faults = Lookup.read(path, data), kind, Faults()
        self.path, self.images, self.categories = path, self._lookup.images, self._lookup.categories
        self._rows: dict[int, list[Row]] = defaultdict(list)
        seen: set[int] = set()
        for entry, table in rows_of(path, data, "annotations", "annotation"):
            row = table if isinstance(table, Row) else Row(table)
            self._check(row, entry)
            if row.id in seen:
                raise entry.error("is listed twice", "remove or renumber one")
            seen.add(row.id)
            self._rows[self._lookup.image(row, entry)].append(row)
        check_masks(path, (row for rows in self._rows.values() for row in rows), kind)

    @classmethod
    def open(cls, path: Path | str) -> "CocoFile":
        """Read and check a file.

        Raises:
            InputError: it cannot be read.
            AnnotationError: it is no COCO data set, or an entry is not as it should be.
        """
        return cls(Path(path), read_coco(Path(path)))

    def regions(self, image: CocoImage) -> list[Region]:
        """The regions of an image, `category` an index of `categories`; see `faults`.

        Raises:
            AnnotationError: a mask is damaged.
        """

        def read(row: Row) -> Region:
            entry = Entry(self.path, f"annotation {row.id}")
            category = self._lookup.category(row, entry)
            known = {"category": category, "source_id": row.id}
            return read_region(row, entry, image.size, self._kind, **known)

        rows = self._rows.get(self._lookup.image_index[image.id], [])
        return self.faults.collect(rows, read)

    def region_file(self) -> RegionFile:
        """The file, asked picture by picture."""
        return RegionFile(
            self.path,
            NamedEntries(self.path, [image.file_name for image in self.images]),
            lambda index, picture: self.regions(self._same_size(index, picture)),
            faults=self.faults,
            class_names=[category.name for category in self.categories],
            image_ids=[image.id for image in self.images],
            image_sizes=[image.size for image in self.images],
        )

    def _check(self, row: Row, entry: Entry) -> None:
        row.id = entry.whole(need(row, "id", entry), "id")
        self._lookup.category(row, entry)
        check_shape(row, entry, self._kind)

    def _same_size(self, index: int, picture: Picture) -> CocoImage:
        image = self.images[index]
        check_size(self.path, image, picture)
        return image

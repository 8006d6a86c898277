"""COCO's results: a bare list of boxes and masks with scores."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from atas_deploy.core.region import Region
from atas_deploy.media.annotations.coco_lists import Lookup, name_entry, need, numbered
from atas_deploy.media.annotations.coco_region import (
    check_masks,
    check_shape,
    check_size,
    read_region,
)
from atas_deploy.media.annotations.coco_row import Kind, Row, read_coco
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.faults import Faults
from atas_deploy.media.annotations.matching import NamedEntries, NumberedEntries
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile

_RESULTS = "_results.json"  # beside it, without this, may lie the data set


class CocoResults:
    """The results of a file, by image.

    Images are known by their numbers, or by their names if a data set lies beside: "x.json" for
    "x_results.json".
    """

    def __init__(self, path: Path, rows: list[Any], kind: Kind) -> None:
        """Check the rows of a file; raises AnnotationError if one is not as it should be."""
        self._path, self._kind, self._faults = path, kind, Faults()
        self._beside = path.with_name(path.name.removesuffix(_RESULTS) + ".json")
        self._lookup: Lookup | None = None
        if path.name.endswith(_RESULTS) and self._beside.is_file():
            self._lookup = Lookup.read(self._beside, read_coco(self._beside))
        self._rows: dict[int, list[Row]] = defaultdict(list)
        for place, (entry, table) in enumerate(numbered(path, rows, "result"), 1):
            row = table if isinstance(table, Row) else Row(table)
            row.place = place
            check_shape(row, entry, kind)
            self._rows[self._image(row, entry)].append(row)
        check_masks(path, (row for rows in self._rows.values() for row in rows), kind)
        self._images = list(self._rows)

    def region_file(self) -> RegionFile:
        """The file, asked picture by picture."""
        if self._lookup is None:
            numbers = NumberedEntries(self._path, self._images, noun="image_id")
            return RegionFile(
                self._path, numbers, self._read, faults=self._faults, image_ids=self._images
            )
        images = [self._lookup.images[i] for i in self._images]
        return RegionFile(
            self._path,
            NamedEntries(self._path, [image.file_name for image in images]),
            self._read,
            faults=self._faults,
            class_names=[category.name for category in self._lookup.categories],
            image_ids=[image.id for image in images],
            image_sizes=[image.size for image in images],
        )

    def _image(self, row: Row, entry: Entry) -> int:
        """Index of the image of a row in the data set, or its number without one."""
        number = entry.whole(need(row, "image_id", entry), "image_id")
        entry.whole(need(row, "category_id", entry), "category_id")
        if self._lookup is None:
            return number
        self._lookup.category(row, entry)
        return self._lookup.image(row, entry)

    def _read(self, index: int, picture: Picture) -> list[Region]:
        image = self._images[index]
        if self._lookup is not None:
            check_size(self._beside, self._lookup.images[image], picture)

        def read(row: Row) -> Region:
            entry = name_entry(self._path, "result", row.id, row.place)
            category = None if self._lookup is None else self._lookup.category(row, entry)
            known = {"category": category, "source_id": row.id if type(row.id) is int else None}
            return read_region(row, entry, picture.size, self._kind, **known)

        return self._faults.collect(self._rows[image], read)

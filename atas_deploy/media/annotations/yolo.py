"""YOLO's text: a file an image, a line an object, in shares of the picture.

"class cx cy w h", or a polygon, "class x1 y1 x2 y2 x3 y3 …"; then perhaps what a detector and a
tracker write: a confidence, the number of the object, or both.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Box, Region
from atas_deploy.media.annotations.coco_row import Kind
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.faults import Faults
from atas_deploy.media.annotations.masks import from_polygons, tight_box
from atas_deploy.media.annotations.matching import NamedEntries, files_below
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile
from atas_deploy.media.annotations.text import read_text
from atas_deploy.media.annotations.yolo_names import CLASS_LISTS, find_dataset
from atas_deploy.media.annotations.yolo_rows import BOX, Line, RowSplitter, YoloRow

_ASKED = 1000  # other files at most, where one does not tell its columns
_PICTURE_LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt")


def open_yolo(path: Path, kind: Kind) -> RegionFile:
    """A text file, or a folder of them, whose names are those of the pictures.

    Raises:
        AnnotationError: the names of the classes cannot be read.
    """
    texts = label_files(path)
    dataset = find_dataset(path if path.is_dir() else path.parent)
    classes = None if dataset.names is None else len(dataset.names)
    faults = Faults()

    def lines(file: Path) -> Iterator[Line]:
        for number, line in enumerate(read_text(file, kind="YOLO text").splitlines(), 1):
            if line.strip():
                yield _take_class(Entry(file, f"line {number}"), line.split(), classes)

    splitter = RowSplitter(
        dataset.keypoint_values, lambda: (lines(file) for file, _ in texts[:_ASKED])
    )

    def read(index: int, picture: Picture) -> list[Region]:
        rows = splitter.split(lines(texts[index][0]))
        return faults.collect(rows, lambda row: _region(row, picture.size, kind))

    entries = NamedEntries(path, [name for _, name in texts])
    return RegionFile(path, entries, read, faults=faults, class_names=dataset.names)


def label_files(path: Path) -> list[tuple[Path, str]]:
    """The label files of a folder, each with its name there; a file is the only one.

    Lists of classes and of pictures and readmes are no labels.
    """
    found = list(zip(*files_below(path, ".txt"), strict=True))
    return [(file, name) for file, name in found if file == path or _is_label(file)]


def _is_label(file: Path) -> bool:
    name = file.name.casefold()
    if name in CLASS_LISTS or name.startswith("readme"):
        return False
    if name not in _PICTURE_LISTS:
        return True
    first = read_text(file, kind="YOLO text").split(maxsplit=1)[:1]
    return not first or first[0].isdigit()


def _take_class(entry: Entry, fields: list[str], classes: int | None) -> Line:
    """A line with its class taken off.

    Raises:
        AnnotationError: there is no such class.
    """
    category = entry.parse_whole(fields[0], "class")
    if category < 0 or (classes is not None and category >= classes):
        known = "from 0 on" if classes is None else f"from 0 to {classes - 1}, as classes are named"
        raise entry.error(f"has the class {category}, expected one {known}", "correct it")
    return entry, category, fields[1:]


def _region(row: YoloRow, size: Size, kind: Kind) -> Region:
    entry, code = row.entry, None
    if len(row.shape) == BOX:
        if kind == "masks":
            raise entry.unusable("is a box, expected a polygon", "use the file for boxes")
        box = entry.clip(_box(row, size), size)
    else:
        points = np.array(row.shape).reshape(-1, 2) * size[::-1]
        if kind == "boxes":
            low, extent = points.min(0).tolist(), np.ptp(points, 0).tolist()
            box = entry.clip(entry.box(*low, *extent), size)
        else:
            code = from_polygons([points.ravel()], size, entry)
            box = tight_box(code)
    return Region(box=box, rle=code, category=row.category, score=row.score, track=row.track)


def _box(row: YoloRow, size: Size) -> Box:
    height, width = size
    x, y, w, h = (value * side for value, side in zip(row.shape, (width, height) * 2, strict=True))
    return row.entry.box(x - w / 2, y - h / 2, w, h)

"""YOLO's text: a file an image, a line an object, in shares of the picture.

"class cx cy w h", then perhaps a confidence; or a polygon, "class x1 y1 x2 y2 x3 y3 …".
"""

from pathlib import Path

import numpy as np

from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Box, Region
from atas_deploy.media.annotations.coco_region import Kind
from atas_deploy.media.annotations.entry import Entry, show
from atas_deploy.media.annotations.masks import from_polygons, tight_box
from atas_deploy.media.annotations.matching import NamedEntries, files_below
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.annotations.region_file import RegionFile
from atas_deploy.media.annotations.text import read_text
from atas_deploy.media.annotations.yolo_names import CLASS_LISTS, find_class_names

_ROUNDING = 2e-3  # shares that may reach beyond the picture
_BOX = 4


def open_yolo(path: Path, kind: Kind) -> RegionFile:
    """A text file, or a folder of them, whose names are those of the pictures."""
    found = zip(*files_below(path, ".txt"), strict=True)
    texts = [(file, name) for file, name in found if file.name not in CLASS_LISTS]
    class_names = find_class_names(path if path.is_dir() else path.parent)
    classes = None if class_names is None else len(class_names)

    def read(index: int, picture: Picture) -> list[Region]:
        file, _ = texts[index]
        lines = read_text(file, kind="YOLO text").splitlines()
        return [
            _region(line.split(), Entry(file, f"line {i}"), picture.size, kind, classes)
            for i, line in enumerate(lines, 1)
            if line.strip()
        ]

    entries = NamedEntries(path, [name for _, name in texts])
    return RegionFile(path, entries, read, class_names=class_names)


def _region(fields: list[str], entry: Entry, size: Size, kind: Kind, classes: int | None) -> Region:
    category = entry.parse_whole(fields[0], "class")
    if category < 0 or (classes is not None and category >= classes):
        known = "from 0 on" if classes is None else f"from 0 to {classes - 1}, as classes are named"
        raise entry.error(f"has the class {category}, expected one {known}", "correct it")
    values = [entry.parse(field, "value") for field in fields[1:]]
    if len(values) in (_BOX, _BOX + 1):
        if kind == "masks":
            raise entry.error("is a box, expected a polygon", "use the file for boxes")
        score = entry.score(values[_BOX]) if len(values) > _BOX else None
        box = entry.clip(_box(values[:_BOX], entry, size), size)
        return Region(box=box, category=category, score=score)
    if len(values) < 2 * 3 or len(values) % 2:
        raise entry.error(
            f'has {len(fields)} values ({show(" ".join(fields))}), expected "class cx cy w h", '
            'perhaps with a confidence, or "class x1 y1 x2 y2 x3 y3 …"',
            "correct or remove it",
        )
    _check_shares(values, entry)
    points = np.array(values).reshape(-1, 2) * size[::-1]
    if kind == "boxes":
        low, extent = points.min(0).tolist(), np.ptp(points, 0).tolist()
        return Region(box=entry.clip(entry.box(*low, *extent), size), category=category)
    code = from_polygons([points.ravel()], size, entry)
    return Region(box=tight_box(code), rle=code, category=category)


def _box(values: list[float], entry: Entry, size: Size) -> Box:
    _check_shares(values, entry)
    height, width = size
    x, y, w, h = (value * side for value, side in zip(values, (width, height) * 2, strict=True))
    return entry.box(x - w / 2, y - h / 2, w, h)


def _check_shares(values: list[float], entry: Entry) -> None:
    for value in values:
        if not -_ROUNDING <= value <= 1 + _ROUNDING:
            raise entry.error(
                f"has the value {value:g}, expected shares of the picture from 0 to 1",
                "divide by the width or height of the picture",
            )

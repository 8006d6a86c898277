"""An annotation or a result of a COCO file, kept in little room.

A data set has a million of them, so each is packed as soon as it is read.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atas_deploy.media.annotations.text import read_json

Kind = Literal["boxes", "masks", "both"]

_KEYS = ("id", "image_id", "category_id", "bbox", "segmentation", "score", "iscrowd")


class Row:
    """An annotation or a result, as the file has it.

    Attributes:
        place: in its list, from 1 on.
        id, image_id, category_id, bbox, segmentation, score, iscrowd: values of the file; None
            where it has none.
    """

    __slots__ = ("place", *_KEYS)
    place: int
    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    segmentation: Any
    score: Any
    iscrowd: Any

    def __init__(self, table: dict[str, Any]) -> None:
        """Take what is needed of a table."""
        self.place = 0
        for key in _KEYS:
            setattr(self, key, table.get(key))

    def get(self, key: str) -> Any:
        """A value by its key, as a table gives it."""
        return getattr(self, key, None)


def read_coco(path: Path, kind: Kind = "both") -> Any:
    """Data of a COCO file, where each annotation or result is a `Row`.

    Long lists of numbers become arrays, which need a quarter of the room. Masks beside boxes are
    dropped if only boxes are wanted, and boxes if only masks are.

    Raises:
        InputError: it is missing, empty or cannot be read.
        AnnotationError: it is no JSON, or cut off.
    """
    return read_json(path, partial(_pack, kind=kind))


def _pack(table: dict[str, Any], kind: Kind) -> Any:
    """Numbers as arrays where they are all numbers; else they stay, to be refused."""
    if isinstance(table.get("counts"), list):
        table["counts"] = _pack_list(table["counts"], np.int64)
    polygons = table.get("segmentation")
    if isinstance(polygons, list):
        packed = (_pack_list(polygon, np.float64) for polygon in polygons)
        table["segmentation"] = [
            p for p in packed if not (isinstance(p, np.ndarray) and not p.size)
        ]
    if "image_id" not in table or "segments_info" in table:
        return table
    if kind == "masks":
        table["bbox"] = None
    elif kind == "boxes" and table.get("bbox"):
        table["segmentation"] = None
    bbox = table.get("bbox")
    if isinstance(bbox, list) and len(bbox) == 4:
        table["bbox"] = _pack_list(bbox, np.float64)
    return Row(table)


def _pack_list(values: Any, dtype: type[np.generic]) -> Any:
    allowed = {int} if dtype is np.int64 else {int, float}
    if isinstance(values, list) and set(map(type, values)) <= allowed:
        try:
            return np.array(values, dtype)
        except OverflowError:
            pass
    return values

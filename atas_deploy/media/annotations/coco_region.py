"""A region of a COCO annotation or result."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Box, Region
from atas_deploy.media.annotations.coco_lists import CocoImage
from atas_deploy.media.annotations.coco_row import Kind, Row
from atas_deploy.media.annotations.entry import Entry, show
from atas_deploy.media.annotations.masks import read_mask, tight_box
from atas_deploy.media.annotations.picture import Picture


def check_size(path: Path, image: CocoImage, picture: Picture) -> None:
    """Compare a picture with what a file says of it.

    Raises:
        AnnotationError: they differ in size.
    """
    if image.size != picture.size:
        raise Entry(path, f"image {image.id}").error(
            f'("{image.file_name}") is {image.width} x {image.height} pixels, while {picture} is '
            f"{picture.size[1]} x {picture.size[0]}",
            "give the picture that was annotated",
        )


def check_shape(row: Row, entry: Entry, kind: Kind) -> None:
    """Refuse a row that has neither box nor mask, or no box where it should.

    Raises:
        AnnotationError: it is not as it should be.
    """
    if _has(row.bbox):
        _read_box(row, entry)
    elif kind != "masks" and not _has(row.segmentation):
        raise entry.error('has neither "bbox" nor "segmentation"', "add one of them")


def check_masks(path: Path, rows: Iterable[Row], kind: Kind) -> None:
    """Refuse a file of boxes where masks are wanted.

    Raises:
        AnnotationError: no row has a mask.
    """
    if kind == "masks" and (masks := [_has(row.segmentation) for row in rows]) and not any(masks):
        raise AnnotationError(
            f'{path} has no "segmentation" at all, expected masks: use it as a file of boxes'
        )


def read_region(row: Row, entry: Entry, size: Size, kind: Kind, **known: Any) -> Region:
    """The region of an annotation or a result in a picture of a size (H, W).

    Raises:
        AnnotationError: it is damaged.
        UnusableRegionError: it lies outside, or has no mask where one is wanted.
    """
    if (score := row.score) is not None:
        score = entry.score(entry.number(score, "score"))
    known |= {"score": score, "crowd": bool(row.iscrowd)}
    code = None
    if _has(row.segmentation):
        code = read_mask(row.segmentation, size, entry)
    elif kind == "masks":
        raise entry.unusable("has no mask", "add one, or use the file for boxes")
    box = entry.clip(_read_box(row, entry), size) if _has(row.bbox) else tight_box(code or {})
    return Region(box=box, rle=None if kind == "boxes" else code, **known)


def _has(value: Any) -> bool:
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)


def _read_box(row: Row, entry: Entry) -> Box:
    """The "bbox" of a row as (x0, y0, x1, y1), wherever it lies."""
    bbox = row.bbox.tolist() if isinstance(row.bbox, np.ndarray) else row.bbox
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise entry.error(
            f"has the bbox {show(bbox)}, expected [x, y, width, height]", "correct it"
        )
    x, y, width, height = (entry.number(value, "bbox") for value in bbox)
    return entry.box(x, y, width, height)

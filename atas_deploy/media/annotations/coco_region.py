"""A region of a COCO annotation or result."""

from pathlib import Path
from typing import Any, Literal

from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Region
from atas_deploy.media.annotations.coco_lists import CocoImage, Row, read_box
from atas_deploy.media.annotations.entry import Entry
from atas_deploy.media.annotations.masks import read_mask, tight_box
from atas_deploy.media.annotations.picture import Picture

Kind = Literal["boxes", "masks", "both"]


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


def check_shape(row: Row, entry: Entry) -> None:
    """Refuse a row that has neither box nor mask, or a box without area."""
    if row.get("bbox"):
        read_box(row, entry)
    elif not row.get("segmentation"):
        raise entry.error('has neither "bbox" nor "segmentation"', "add one of them")


def read_region(row: Row, entry: Entry, size: Size, kind: Kind, **known: Any) -> Region:
    """The region of an annotation or a result in a picture of a size (H, W).

    Raises:
        AnnotationError: it is damaged, lies outside, or is not of the kind that is wanted.
    """
    if (score := row.get("score")) is not None:
        score = entry.score(entry.number(score, "score"))
    known |= {"score": score, "crowd": bool(row.get("iscrowd", 0))}
    code = None
    if row.get("segmentation") and (kind != "boxes" or not row.get("bbox")):
        code = read_mask(row["segmentation"], size, entry)
    elif kind == "masks":
        raise entry.error("has no segmentation", "add it, or use the file for boxes")
    if row.get("bbox") and kind != "masks":
        box = entry.clip(read_box(row, entry), size)
    else:
        box = tight_box(code or {})
    return Region(box=box, rle=None if kind == "boxes" else code, **known)

"""Masks of files as checked run lengths: COCO's RLE, polygons, label maps.

pycocotools reads beyond its memory where run lengths are damaged, so they are counted here before
it sees them.

H W pixels
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle

from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Box, Rle
from atas_deploy.media.annotations.entry import Entry, show

Counts = npt.NDArray[np.int64]

_MOST_CHUNKS = 7  # of 5 bits: 35 bits, more than a picture has pixels
_FARTHEST = 10  # picture sizes; pycocotools needs memory for the way that a polygon goes outside


def read_mask(value: Any, size: Size, entry: Entry) -> Rle:
    """Run lengths of a COCO "segmentation", which has a pixel at least.

    Args:
        value: polygons, or {"size": (H, W), "counts": compressed text or a list}.
        size: (H, W) of the picture.
        entry: where it stands.

    Returns:
        {"size": [H, W], "counts": bytes}.

    Raises:
        AnnotationError: it is damaged, or of another size than the picture.
        UnusableRegionError: it has no pixel in the picture.
    """
    if isinstance(value, dict):
        return _from_counts(value, size, entry)
    if isinstance(value, list) and value:
        return from_polygons(value, size, entry)
    raise entry.error(
        f"has the segmentation {show(value)}, expected polygons or run lengths", "correct it"
    )


def from_polygons(polygons: Sequence[Any], size: Size, entry: Entry) -> Rle:
    """Run lengths of the union of polygons, as pycocotools draws them.

    A union so small that it has no pixel gets the one at the middle of its points inside.

    Args:
        polygons: each x, y, x, y … in pixels.
        size: (H, W) of the picture.
        entry: where they stand.

    Raises:
        AnnotationError: one of them is none.
        UnusableRegionError: all lie outside of the picture.
    """
    height, width = size
    checked = [_check_polygon(polygon, size, entry) for polygon in polygons]
    drawn = rle.frPyObjects([polygon.tolist() for polygon in checked], height, width)
    merged: Rle = rle.merge(drawn)
    if rle.area(merged):
        return merged
    points = np.concatenate(checked).reshape(-1, 2)
    inside = points[((points > 0) & (points < (width, height))).all(1)]
    if not len(inside):
        raise entry.unusable(
            f"has polygons that lie outside of the picture of {width} x {height} pixels",
            "correct or remove them, or give the picture that they belong to",
        )
    x, y = inside.mean(0).astype(np.intp)
    mask = np.zeros(size, np.uint8, order="F")
    mask[y, x] = 1
    code: Rle = rle.encode(mask)
    return code


def tight_box(code: Rle) -> Box:
    """The tightest box (x0, y0, x1, y1) around a mask that has a pixel."""
    x, y, width, height = rle.toBbox(code).tolist()
    return x, y, x + width, y + height


def label_rles(labels: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[int, Rle]]:
    """Each value of a label map (H, W) with its run lengths, in one pass over the map."""
    height, width = labels.shape
    flat = labels.ravel("F")
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    for runs in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
        edges = np.stack([starts[runs], ends[runs]], 1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size)
        counts = counts if counts[-1] else counts[:-1]
        yield int(values[runs[0]]), _compress(counts, (height, width))


def _compress(counts: Counts, size: Size) -> Rle:
    code: Rle = rle.frPyObjects({"size": list(size), "counts": counts}, *size)
    return code


def _from_counts(value: Rle, size: Size, entry: Entry) -> Rle:
    if value.get("size") != list(size):
        raise entry.error(
            f"has a mask of the size (height, width) {show(value.get('size'))}, while the picture "
            f"is {list(size)}",
            "scale the mask or give the picture that it belongs to",
        )
    counts = value.get("counts")
    known = counts if isinstance(counts, np.ndarray) else _decompress(counts)
    if known is None or not known.size or known.min() < 0 or known.max() > size[0] * size[1]:
        raise entry.error("has damaged run lengths", "make them again")
    if known.sum() != size[0] * size[1]:
        raise entry.error(
            f"has run lengths of {known.sum():,} pixels, while the picture has "
            f"{size[0] * size[1]:,}",
            "make them again",
        )
    if not known[1::2].any():
        raise entry.unusable("has a mask without a pixel", "remove it")
    return _compress(known, size)


def _decompress(text: Any) -> Counts | None:
    """Run lengths of COCO's compressed text, which it does not tell apart from damage: None.

    Each number is written in chunks of 5 bits, the lowest first, as characters from "0" on; the
    sixth bit says that more follow, and from the fourth number on it is the difference from the
    number two before.
    """
    if not isinstance(text, str) or not text.isascii():
        return None
    chars = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - ord("0")
    if not chars.size or chars.min() < 0 or chars.max() > 63 or chars[-1] & 32:
        return None
    ends = np.flatnonzero(chars & 32 == 0)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _MOST_CHUNKS:
        return None
    starts = ends - lengths + 1
    places = np.arange(chars.size) - np.repeat(starts, lengths)
    counts = np.add.reduceat((chars & 31) << 5 * places, starts)
    counts -= (chars[ends] & 16 > 0) * (1 << 5 * lengths)
    counts[1::2], counts[2::2] = counts[1::2].cumsum(), counts[2::2].cumsum()
    return counts


def _check_polygon(polygon: Any, size: Size, entry: Entry) -> npt.NDArray[np.float64]:
    if not isinstance(polygon, np.ndarray) or not np.isfinite(polygon).all():
        raise entry.error("has a polygon that is no list of numbers", "correct it")
    if polygon.size % 2 or polygon.size < 6:
        raise entry.error(
            f"has a polygon of {polygon.size} numbers, expected x, y of three points or more",
            "correct or remove it",
        )
    if np.abs(polygon).max() > _FARTHEST * max(size):
        raise entry.error("has a polygon that reaches far out of the picture", "correct it")
    return polygon

"""Between masks and polygons, both ways and exactly.

Outlines run along the edges between pixels: the pixel in row r and column c is the square from
(c, r) to (c + 1, r + 1), x to the right and y down.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Corner = tuple[int, int]
Ring = list[list[int]]
Polygon = list[Ring]

# By the four pixels around a corner of pixels (1 upper left, 2 upper right, 4 lower left, 8 lower
# right): how often outlines turn there.
_TURNS = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0], np.uint8)
_RISING = 6  # upper right and lower left: the outlines on the left turn downwards
_BELOW_RIGHT = 8


def trace_polygons(mask: npt.NDArray[np.uint8], *, tolerance: float = 0.0) -> list[Polygon]:
    """Outline a mask as the coordinates of a GeoJSON MultiPolygon.

    Pixels that touch only at a corner are apart, so no ring crosses or touches itself.

    Args:
        mask: (H, W) uint8, 0 and 1.
        tolerance: How far, in pixels, an outline may be off (Douglas-Peucker); then rings may
            cross. A ring that would vanish is kept as it is. 0 keeps all exact.

    Returns:
        For each 4-connected part its exterior ring, then its holes. A ring is a closed list of
        [x, y] whose last point repeats the first; x(i) y(i+1) - x(i+1) y(i) sums to a positive
        number around exteriors and to a negative one around holes.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return []
    mask = mask[top : top + height, left : left + width]
    _, parts = cv2.connectedComponents(mask, connectivity=4)
    rings: dict[int, list[list[Corner]]] = {}
    for outline in _outlines(mask):
        for ring in _simple(outline):
            part = rings.setdefault(int(parts[_inside(ring)]), [])
            part.insert(0 if _twice_area(ring) > 0 else len(part), ring)
    return [
        [_finish(ring, offset=(left, top), tolerance=tolerance) for ring in part]
        for part in rings.values()
    ]


def fill_polygons(
    polygons: Sequence[Sequence[Sequence[Sequence[float]]]], height: int, width: int
) -> npt.NDArray[np.bool_]:
    """Fill polygons: a pixel belongs to them if its centre lies inside (even-odd rule).

    Args:
        polygons: Coordinates of a GeoJSON MultiPolygon, in pixels; may leave the picture.
        height: Of the picture.
        width: Of the picture.

    Returns:
        (H, W) bool; the very mask that `trace_polygons` outlined, if it did so exactly.
    """
    rings = [np.asarray(ring, np.float64) for polygon in polygons for ring in polygon]
    x0, y0 = np.concatenate([np.empty((0, 2)), *(ring[:-1] for ring in rings)]).T
    x1, y1 = np.concatenate([np.empty((0, 2)), *(ring[1:] for ring in rings)]).T
    first, last = (
        np.clip(np.ceil(y - 0.5), 0, height).astype(np.intp)
        for y in (np.minimum(y0, y1), np.maximum(y0, y1))
    )
    counts = last - first  # rows whose centres an edge crosses
    edge = np.repeat(np.arange(len(counts)), counts)
    row = first[edge] + _position(counts)
    x = x0[edge] + (row + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)  # the first one to the right
    crossed = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    inside: npt.NDArray[np.bool_] = crossed.reshape(height, -1).cumsum(axis=1)[:, :width] % 2 == 1
    return inside


def _outlines(mask: npt.NDArray[np.uint8]) -> list[list[Corner]]:
    """Walk along all outlines of a mask, with its pixels on the right hand.

    Outlines turn only at corners with an odd number of pixels around, or two diagonal ones, where
    two outlines turn. So, along each row of corners, the first is joined with the second, the
    third with the fourth; and likewise along each column.
    """
    around = np.pad(mask, 1)
    code: npt.NDArray[np.uint8] = (
        around[:-1, :-1] + 2 * around[:-1, 1:] + 4 * around[1:, :-1] + 8 * around[1:, 1:]
    )
    turns = _TURNS[code]
    y, x = np.nonzero(turns)  # row by row
    turns = turns[y, x]
    y, x, second = np.repeat(y, turns), np.repeat(x, turns), _position(turns)
    kind = code[y, x]
    lower = np.where(kind == _RISING, 1 - second, second)
    order = np.lexsort((lower, y, x))  # column by column
    joined = np.empty_like(order)
    joined[order[0::2]], joined[order[1::2]] = order[1::2], order[0::2]
    corners = list(zip(x.tolist(), y.tolist(), strict=True))
    return _walk(corners, joined.tolist(), (kind & _BELOW_RIGHT).tolist())


def _position(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """Count from 0 within each repetition of np.repeat(..., counts)."""
    ends = np.cumsum(counts, dtype=np.intp)
    everywhere = np.arange(counts.sum(), dtype=np.intp)
    return np.asarray(everywhere - np.repeat(ends - counts, counts), np.intp)


def _walk(corners: list[Corner], joined: list[int], below: list[int]) -> list[list[Corner]]:
    """Follow corners 2i to 2i + 1 along rows, and `joined` along columns, until all are seen.

    Args:
        corners: (x, y), row by row.
        joined: The other end of each corner's vertical edge.
        below: Whether the pixel to the lower right of a corner is in the mask.
    """
    seen = bytearray(len(corners))
    outlines = []
    for left in range(0, len(corners), 2):
        outline: list[Corner] = []
        corner = left if below[left] else left + 1
        while not seen[corner]:
            other = corner ^ 1
            seen[corner] = seen[other] = True
            outline += corners[corner], corners[other]
            corner = joined[other]
        if outline:
            outlines.append(outline)
    return outlines


def _simple(outline: list[Corner]) -> Iterator[list[Corner]]:
    """Cut an outline where it comes back to a corner."""
    path: list[Corner] = []
    place: dict[Corner, int] = {}
    for corner in outline:
        if (start := place.get(corner)) is not None:
            yield path[start:]
            for passed in path[start:]:
                del place[passed]
            del path[start:]
        place[corner] = len(path)
        path.append(corner)
    yield path


def _inside(ring: list[Corner]) -> tuple[int, int]:
    """Find a pixel of the mask beside a ring: (row, column)."""
    (x0, y0), (x1, y1) = ring[:2]
    if y0 != y1:
        (x0, y0), (x1, y1) = ring[1], ring[2]
    return (y0, x0) if x0 < x1 else (y0 - 1, x1)


def _twice_area(ring: list[Corner]) -> int:
    following = ring[1:] + ring[:1]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, following, strict=True))


def _finish(ring: list[Corner], *, offset: Corner, tolerance: float) -> Ring:
    """Simplify, move and close a ring."""
    points = np.array(ring, np.int32)
    if tolerance > 0:
        simple = cv2.approxPolyDP(points, tolerance, closed=True)[:, 0]
        points = simple.astype(np.int32) if len(simple) >= 3 else points
    closed: Ring = (np.concatenate([points, points[:1]]) + offset).tolist()
    return closed

"""Cells of the patch grid where several queries compete, and who wins each pixel there.

Inside a cell the logit of a query is bilinear, a convex combination of its values at the four
corners. So is the difference of two queries: a query that is behind another one at all corners is
behind it everywhere in the cell and cannot win. The same holds in any rectangle within a cell.

    M cells (or rectangles), Q queries, P pairs of a cell and a query that may win in it
    corners: upper left, upper right, lower left, lower right
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from atas_deploy.core.masks.axis import Axis

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]
Value = TypeVar("Value", bound=np.integer)


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """Cells with the queries that may win in them, cells with most queries first.

    Attributes:
        cell: (M,) the caller's number of each cell.
        start: (M,) first pair of each cell.
        count: (M,) number of its pairs, descending.
        query: (P,) the query of each pair, ascending within a cell.
        corners: (4, P) its logits at the corners of the cell (not of a rectangle within it).
    """

    cell: IntArray
    start: IntArray
    count: IntArray
    query: IntArray
    corners: FloatArray


def label_cells(
    nodes: FloatArray,
    corners: IntArray,
    winners: IntArray,
    rows: Axis,
    columns: Axis,
    *,
    first: int,
    values: npt.NDArray[Value],
) -> npt.NDArray[Value]:
    """Give every pixel in some rows of cells the value of its winning query.

    1. One winner at all four corners of a cell wins everywhere in it: fill.
    2. Else few queries can win. The cell is cut into blocks of up to 10 x 10 pixels, and the same
       argument settles the blocks whose corner pixels have one winner.
    3. In the blocks that remain the few queries are compared pixel by pixel.

    Args:
        nodes: (N, Q) logits of the nodes around the cells.
        corners: (r, c, 4) the nodes at the corners of each cell.
        winners: (N,) the query with the largest logit of each node.
        rows: the axis of rows.
        columns: the axis of columns, of c cells.
        first: the upper one of the r rows of cells.
        values: (Q,) of each query: its class, for example.

    Returns:
        (pixels of the r rows, W), of the dtype of `values`.
    """
    r, c = corners.shape[:2]
    at_corners = winners[corners]
    blocks = values[at_corners[:, None, :, None, 0]]
    blocks = blocks.repeat(rows.blocks, axis=1).repeat(columns.blocks, axis=3)
    several = (at_corners[..., 1:] != at_corners[..., :1]).any(axis=2)
    several &= np.outer(np.diff(rows.edges)[first : first + r] > 0, np.diff(columns.edges) > 0)
    row, column = np.nonzero(several)
    contest = find_contest(nodes, corners[row, column], at_corners[row, column])
    row, column = row[contest.cell], column[contest.cell]

    fy, fx = _ends(rows)[first + row], _ends(columns)[column]
    ends_y, ends_x = (f.reshape(len(row), 2 * f.shape[1]) for f in (fy, fx))
    pairs = sample_winners(contest, ends_y, ends_x, np.arange(len(contest.query), dtype=np.int32))
    pairs = pairs.reshape(len(row), rows.blocks, 2, columns.blocks, 2).transpose(0, 1, 3, 2, 4)
    pairs = pairs.reshape(*pairs.shape[:3], 4)
    blocks[row, :, column, :] = values[contest.query][pairs[..., 0]]
    top, bottom = rows.edges[first], rows.edges[first + r]
    out = blocks.reshape(r * rows.blocks, c * columns.blocks)[:, columns.block]
    out = out[rows.block[top:bottom] - first * rows.blocks]

    cell, part_y, part_x = np.nonzero((pairs[..., 1:] != pairs[..., :1]).any(axis=-1))
    few = narrow_contest(
        contest, cell, pairs[cell, part_y, part_x], fy[cell, part_y], fx[cell, part_x]
    )
    cell, part_y, part_x = cell[few.cell], part_y[few.cell], part_x[few.cell]
    y = _pixels(rows, first + row[cell], part_y)
    x = _pixels(columns, column[cell], part_x)
    place = ((y - top) * out.shape[1])[:, :, None] + x[:, None, :]
    out.reshape(-1)[place] = sample_winners(
        few, rows.fraction[y], columns.fraction[x], values[few.query]
    )
    return out


def corners_of_cells(nodes: IntArray) -> IntArray:
    """(r + 1, c + 1) nodes to those at the corners of the cells, (r, c, 4)."""
    return np.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, :-1], nodes[1:, 1:]], axis=-1)


def find_contest(nodes: FloatArray, corners: IntArray, winners: IntArray) -> Contest:
    """Find the queries that may win somewhere in each cell.

    Args:
        nodes: (N, Q) logits of the nodes.
        corners: (M, 4) the nodes at the corners of each cell.
        winners: (M, 4) the query with the largest logit at each corner.
    """
    pivots = [nodes[corners, winner[:, None]].T for winner in winners.T]
    floor = reduce(np.maximum, (reduce(np.minimum, pivot) for pivot in pivots))
    highest = reduce(np.maximum, (nodes[corner] for corner in corners.T))
    cell, query = np.nonzero(highest >= floor[:, None])
    values = nodes[corners.T[:, cell], query]
    kept = _unbeaten(values, pivots, np.bincount(cell, minlength=len(corners)))
    return _contest(cell[kept], query[kept], values[:, kept], cells=len(corners))


def narrow_contest(
    contest: Contest,
    parent: IntArray,
    winners: npt.NDArray[np.integer],
    fy: FloatArray,
    fx: FloatArray,
) -> Contest:
    """Find the queries that may win in rectangles within the cells of a contest.

    Args:
        contest: the cells.
        parent: (M',) row of the contest that each rectangle lies in.
        winners: (M', 4) the pair with the largest logit at each corner of a rectangle.
        fy: (M', 2) places of its upper and its lower edge in the cell, in [0, 1].
        fx: (M', 2) places of its left and its right edge.
    """
    count = contest.count[parent]
    start = np.cumsum(count) - count
    pair = np.arange(count.sum()) + np.repeat(contest.start[parent] - start, count)
    values = _at_corners(contest.corners[:, pair], *(np.repeat(f, count, axis=0) for f in (fy, fx)))
    pivots = [_at_corners(contest.corners[:, winner], fy, fx) for winner in winners.T]
    floor = reduce(np.maximum, (reduce(np.minimum, pivot) for pivot in pivots))
    hopeful = np.flatnonzero(reduce(np.maximum, values) >= np.repeat(floor, count))
    rectangle, pair = np.repeat(np.arange(len(parent)), count)[hopeful], pair[hopeful]
    hopefuls = np.bincount(rectangle, minlength=len(parent))
    kept = _unbeaten(values[:, hopeful], pivots, hopefuls)
    rectangle, pair = rectangle[kept], pair[kept]
    return _contest(rectangle, contest.query[pair], contest.corners[:, pair], cells=len(parent))


def sample_winners(
    contest: Contest, fy: FloatArray, fx: FloatArray, values: npt.NDArray[Value]
) -> npt.NDArray[Value]:
    """The winner at samples of each cell: the largest logit, the lowest query on ties.

    Args:
        contest: M cells.
        fy: (M, Y) places of the samples between the upper and the lower corners, in [0, 1].
        fx: (M, X) places between the left and the right corners.
        values: (P,) of each pair.

    Returns:
        (M, Y, X) the values of the winning pairs.
    """
    several = int(np.searchsorted(-contest.count, -2))  # cells with more than two pairs
    start, last = contest.start, contest.start + contest.count - 1
    won = np.empty((len(start), fy.shape[1], fx.shape[1]), values.dtype)
    won[:several] = values[start[:several], None, None]
    best = _interpolate(contest.corners[:, start[:several]], fy[:several], fx[:several])
    for rank in range(1, int(contest.count.max(initial=0)) if several else 0):
        n = min(several, int(np.searchsorted(-contest.count, -rank)))  # those with more than `rank`
        pair = start[:n] + rank
        logit = _interpolate(contest.corners[:, pair], fy[:n], fx[:n])
        np.copyto(won[:n], values[pair, None, None], where=logit > best[:n])
        np.maximum(best[:n], logit, out=best[:n])
    # of two pairs, which are most, the sign of one interpolation tells
    start, last, fy, fx = start[several:], last[several:], fy[several:], fx[several:]
    lead = contest.corners[:, last] - contest.corners[:, start]
    left, slope = _along_rows(lead, fy)
    ahead = slope[:, :, None] * fx[:, None, :] > -left[:, :, None]
    won[several:] = np.where(ahead, values[last, None, None], values[start, None, None])
    return won


def _unbeaten(values: FloatArray, pivots: Sequence[FloatArray], count: IntArray) -> IntArray:
    """The pairs that no pivot beats at all corners: (4, P) values, (4, M) of each pivot."""
    beaten = np.zeros(values.shape[1], bool)
    for pivot in pivots:
        behind = [
            np.repeat(ahead, count) > value for ahead, value in zip(pivot, values, strict=True)
        ]
        beaten |= np.logical_and.reduce(behind)
    return np.flatnonzero(~beaten)


def _contest(cell: IntArray, query: IntArray, corners: FloatArray, *, cells: int) -> Contest:
    """Sort M cells by the number of their pairs; the pairs come cell by cell."""
    count = np.bincount(cell, minlength=cells)
    start = np.cumsum(count) - count
    order = np.argsort(-count, kind="stable")
    return Contest(order, start[order], count[order], query, corners)


def _interpolate(corners: FloatArray, fy: FloatArray, fx: FloatArray) -> FloatArray:
    """Bilinear values inside cells: (4, M) corners at (M, Y) x (M, X) places, (M, Y, X)."""
    left, slope = _along_rows(corners, fy)
    logit: FloatArray = slope[:, :, None] * fx[:, None, :]
    logit += left[:, :, None]
    return logit


def _along_rows(corners: FloatArray, fy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The values at the left ends of rows through cells, and their rise to the right, (M, Y)."""
    upper_left, upper_right, lower_left, lower_right = corners[..., None]
    left = upper_left + fy * (lower_left - upper_left)
    return left, upper_right + fy * (lower_right - upper_right) - left


def _at_corners(corners: FloatArray, fy: FloatArray, fx: FloatArray) -> FloatArray:
    """Values at the corners of rectangles in cells: (4, M) corners, (M, 2) edges, (4, M)."""
    upper_left, upper_right, lower_left, lower_right = corners
    values = np.empty_like(corners)
    for row in (0, 1):
        left = upper_left + fy[:, row] * (lower_left - upper_left)
        slope = upper_right + fy[:, row] * (lower_right - upper_right) - left
        for column in (0, 1):
            values[2 * row + column] = left + slope * fx[:, column]
    return values


def _ends(axis: Axis) -> FloatArray:
    """(cells, S, 2) places of the first and the last pixel of each block."""
    return np.stack([axis.fraction[axis.first], axis.fraction[axis.last]], axis=-1)


def _pixels(axis: Axis, cell: IntArray, part: IntArray) -> IntArray:
    """(N, side) the pixels of N blocks; the last one is repeated where a block is shorter."""
    first, last = axis.first[cell, part], axis.last[cell, part]
    side = int((last - first).max(initial=0)) + 1
    pixels: IntArray = np.minimum(first[:, None] + np.arange(side), last[:, None])
    return pixels

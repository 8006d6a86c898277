"""Which pixels stay below a probability threshold, without a softmax at every pixel.

A pixel's probability is exp(m - L): m its winning logit, L the log-sum-exp of all logits. Logits
are convex combinations of the four corners of a cell, m and L convex functions of them. Hence

    L <= the interpolated values of L,    L >= any tangent of L,    m <= the interpolated maxima.

Whole cells are accepted or rejected by these bounds at their corners. The others are cut into
4 x 4 parts by a lattice of 5 x 5 points, where the bounds nearly touch: first they decide whole
parts, then single pixels. The few pixels still open get their softmax.

Q queries, M cells, N pixels, K lattice points, S parts along a side
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.masks.axis import Axis

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

_MARGIN = 1e-4  # bounds closer to the threshold than this are not trusted: rounding
_PARTS = 4  # lattice intervals along a cell's side
_CHUNK = 2_000_000  # logits at once
_ABOVE, _BELOW, _OPEN = np.int8(0), np.int8(1), np.int8(-1)


def _weights(fy: FloatArray, fx: FloatArray) -> FloatArray:
    """(N, 4) weights of the corners of a cell at places in it."""
    return np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], axis=1)


_TICKS = np.linspace(0, 1, _PARTS + 1, dtype=np.float32)
_POINTS = _weights(_TICKS.repeat(_PARTS + 1), np.tile(_TICKS, _PARTS + 1))
_CENTRE = np.full((1, 4), 0.25, np.float32)
_SQUARE = np.array([0, 1, _PARTS + 1, _PARTS + 2])  # corners of a part, from its first one
_PART_CORNERS = (
    np.add.outer((_PARTS + 1) * np.arange(_PARTS), np.arange(_PARTS)).reshape(-1, 1) + _SQUARE
)


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Some rows of cells with the nodes around them.

    Attributes:
        logits: (nodes, Q) less the maximum of each node, so that winners have 0.
        lse: (nodes,) log-sum-exp of the logits.
        corners: (r, c, 4) nodes at the corners of each cell.
        winners: (nodes,) winning query of each node.
        first: the upper row of cells.
    """

    logits: FloatArray
    lse: FloatArray
    corners: IntArray
    winners: IntArray
    first: int


@dataclass(frozen=True, slots=True, eq=False)
class _Lattice:
    """Bounds of L on the lattices of M open cells.

    Attributes:
        verdict: (M, S, S) of each part.
        slope: (M, K, 4) of the tangent at each point.
        intercept: (M, K) of the tangent at each point.
        lse: (M, K) L at each point.
    """

    verdict: npt.NDArray[np.int8]
    slope: FloatArray
    intercept: FloatArray
    lse: FloatArray

    def bounds(
        self, cell: IntArray, weights: FloatArray, fy: FloatArray, fx: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound of L at N pixels."""
        near = (np.rint(fy * _PARTS) * len(_TICKS) + np.rint(fx * _PARTS)).astype(np.intp)
        lower = (weights * self.slope[cell, near]).sum(axis=1) + self.intercept[cell, near]
        iy, ix = _part(fy), _part(fx)
        at = (iy * len(_TICKS) + ix)[:, None] + _SQUARE
        inside = _weights(fy * _PARTS - iy, fx * _PARTS - ix)
        return lower, (inside * self.lse[cell[:, None], at]).sum(axis=1)


def below_threshold(
    band: Band,
    queries: npt.NDArray[np.integer],
    asked: BoolArray,
    rows: Axis,
    columns: Axis,
    *,
    log_threshold: float,
) -> BoolArray:
    """Tell which pixels of a band have too small a probability.

    Args:
        band: the nodes.
        queries: (pixels of the band, W) winning query.
        asked: (pixels of the band, W) pixels that matter; False is answered for the others.
        rows: the axis of rows.
        columns: the axis of columns.
        log_threshold: natural logarithm of the least probability.
    """
    verdict = _judge_cells(band, log_threshold)
    y0, y1 = rows.edges[band.first], rows.edges[band.first + len(verdict)]
    fy, fx = rows.fraction[y0:y1], columns.fraction
    row, column = rows.cell[y0:y1] - band.first, columns.cell
    open_cells = np.flatnonzero(verdict == _OPEN)
    lattice = _lattice(band, open_cells, log_threshold)
    parts = verdict[:, None, :, None].repeat(_PARTS, axis=1).repeat(_PARTS, axis=3)
    r, c = np.divmod(open_cells, verdict.shape[1])
    parts[r, :, c, :] = lattice.verdict
    part_y, part_x = _PARTS * row + _part(fy), _PARTS * column + _part(fx)
    parts = parts.reshape(_PARTS * verdict.shape[0], -1)[:, part_x][part_y]
    below: BoolArray = (parts == _BELOW) & asked
    y, x = np.nonzero((parts == _OPEN) & asked)
    cell = np.searchsorted(open_cells, row[y] * verdict.shape[1] + column[x])
    below[y, x] = _judge_pixels(
        band, lattice, open_cells, cell, queries[y, x], fy[y], fx[x], log_threshold
    )
    return below


def _judge_cells(band: Band, log_threshold: float) -> npt.NDArray[np.int8]:
    """(r, c) verdict on whole cells."""
    corners = band.corners.reshape(-1, 4)
    surest = np.full(len(corners), -np.inf, np.float32)
    for winner in band.winners[corners].T:
        log_p = band.logits[corners, winner[:, None]] - band.lse[corners]
        np.maximum(surest, log_p.min(axis=1), out=surest)
    verdict = np.where(surest >= log_threshold + _MARGIN, _ABOVE, _OPEN).astype(np.int8)
    for cell in _chunks(np.flatnonzero(verdict), 4 * band.logits.shape[1]):
        slope, intercept, _, _ = _tangents(band.logits[corners[cell]], _CENTRE)
        least = (slope[:, 0] + intercept).min(axis=1)  # of L; the maxima at the corners are 0
        verdict[cell] = np.where(-least < log_threshold - _MARGIN, _BELOW, _OPEN)
    return verdict.reshape(band.corners.shape[:2])


def _lattice(band: Band, cells: IntArray, log_threshold: float) -> _Lattice:
    """Take the bounds on the lattices of M cells, and judge their parts."""
    corners = band.corners.reshape(-1, 4)
    found = [
        _judge_parts(band.logits[corners[some]], log_threshold)
        for some in _chunks(cells, _POINTS.shape[0] * band.logits.shape[1])
    ] or [_judge_parts(np.zeros((0, 4, 1), np.float32), log_threshold)]
    return _Lattice(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def _judge_parts(
    logits: FloatArray, log_threshold: float
) -> tuple[npt.NDArray[np.int8], FloatArray, FloatArray, FloatArray]:
    """The fields of a `_Lattice` for (M, 4, Q) logits at the corners."""
    slope, intercept, lse, values = _tangents(logits, _POINTS)
    winner = values.argmax(axis=2)
    cell = np.arange(len(logits))[:, None, None, None]
    at = values[cell, _PART_CORNERS[:, None, :], winner[:, _PART_CORNERS][..., None]]
    surest = (at - lse[:, _PART_CORNERS][:, :, None, :]).min(axis=3).max(axis=2)
    tangent = slope @ _POINTS.T + intercept[..., None]  # (M, K of the tangent, K of the place)
    tangent = tangent[:, _PART_CORNERS[:, :, None], _PART_CORNERS[:, None, :]]
    likeliest = (values.max(axis=2)[:, _PART_CORNERS][:, :, None, :] - tangent).max(axis=3)
    verdict = np.full(surest.shape, _OPEN)
    verdict[likeliest.min(axis=2) < log_threshold - _MARGIN] = _BELOW
    verdict[surest >= log_threshold + _MARGIN] = _ABOVE
    return verdict.reshape(-1, _PARTS, _PARTS), slope, intercept, lse


def _judge_pixels(
    band: Band,
    lattice: _Lattice,
    cells: IntArray,
    cell: IntArray,
    queries: npt.NDArray[np.integer],
    fy: FloatArray,
    fx: FloatArray,
    log_threshold: float,
) -> BoolArray:
    """Judge N pixels: (M,) open cells, (N,) which of them, winning queries, places in the cell."""
    corners = band.corners.reshape(-1, 4)[cells[cell]]
    weights = _weights(fy, fx)
    best = (weights * band.logits[corners, queries[:, None]]).sum(axis=1)
    lower, upper = lattice.bounds(cell, weights, fy, fx)
    below: BoolArray = best - lower < log_threshold - _MARGIN
    still = np.flatnonzero((best - upper < log_threshold + _MARGIN) & ~below)
    for pixel in _chunks(still, 4 * band.logits.shape[1]):
        logits = (weights[pixel, None, :] @ band.logits[corners[pixel]])[:, 0]
        total = np.exp(logits - best[pixel, None]).sum(axis=1)
        below[pixel] = -np.log(total) < log_threshold
    return below


def _tangents(
    logits: FloatArray, points: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Tangents of L at points of cells, as functions of the weights of the corners.

    Args:
        logits: (M, 4, Q) at the corners.
        points: (K, 4) weights of the corners at each point.

    Returns:
        Slope (M, K, 4) and intercept (M, K): L >= weights . slope + intercept; at the points, L
        (M, K) and the logits (M, K, Q).
    """
    values = points @ logits
    top = values.max(axis=2, keepdims=True)
    exponentials = np.exp(values - top)
    total = exponentials.sum(axis=2, keepdims=True)
    lse = (np.log(total) + top)[..., 0]
    slope = (exponentials @ logits.transpose(0, 2, 1)) / total
    return slope, lse - (slope * points).sum(axis=2), lse, values


def _part(fraction: FloatArray) -> IntArray:
    """Which of the S parts of a cell's side a place lies in."""
    return np.minimum((fraction * _PARTS).astype(np.intp), _PARTS - 1)


def _chunks(items: IntArray, size: int) -> list[IntArray]:
    """Cut a list so that a chunk of items of some size stays within memory."""
    step = max(1, _CHUNK // size)
    return [items[start : start + step] for start in range(0, len(items), step)]

"""Where the pixels of an image lie between the nodes of the patch grid, along one axis.

The grid is padded by repeating its outer nodes, which clamps the edges: every pixel then lies in a
cell between two nodes.

N pixels, n nodes before padding, n + 1 cells, S blocks a cell
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.intp]
_BLOCK = 10  # pixels along a block's side, at most; the fastest at 720p and 1080p


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One axis of a bilinear interpolation with half-pixel centres and clamped edges.

    A pixel's value is (1 - fraction) * node[cell] + fraction * node[cell + 1], nodes padded.

    Attributes:
        cell: (N,) the cell of each pixel, ascending.
        fraction: (N,) float32 in [0, 1].
        edges: (n + 2,) first pixel of each cell, then N; equal where a cell has no pixel.
        first: (n + 1, S) first pixel of each block of a cell.
        last: (n + 1, S) its last pixel; blocks of cells with fewer than S pixels overlap.
        block: (N,) which of the (n + 1) * S blocks each pixel lies in.
    """

    cell: IntArray
    fraction: npt.NDArray[np.float32]
    edges: IntArray
    first: IntArray
    last: IntArray
    block: IntArray

    @property
    def blocks(self) -> int:
        """S, the number of blocks a cell."""
        return int(self.first.shape[1])


def pixel_axis(nodes: int, pixels: int) -> Axis:
    """Lay `pixels` over `nodes` as bilinear interpolation with `align_corners=False` does."""
    place = (np.arange(pixels) + 0.5) * (nodes / pixels) + 0.5
    cell = np.minimum(place.astype(np.intp), nodes)
    edges = np.searchsorted(cell, np.arange(nodes + 2))
    lengths = np.diff(edges)
    count = -(-int(lengths.max()) // _BLOCK)
    parts = lengths[:, None] * np.arange(count + 1) // count
    first = np.minimum(edges[:-1, None] + parts[:, :-1], pixels - 1)
    last = np.maximum(edges[:-1, None] + parts[:, 1:] - 1, first)
    inside = np.arange(pixels) - edges[cell]
    part = (inside[:, None] >= parts[cell, 1:]).sum(axis=1)
    return Axis(cell, (place - cell).astype(np.float32), edges, first, last, cell * count + part)

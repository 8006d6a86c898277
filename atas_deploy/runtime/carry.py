"""Features that move along with the picture: from an encoded frame to a later one.

H W pixels, h w grid of a window, R C windows down and across, D embedding width. A picture without
windows that are merged as pixels is one window.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size, Tiles

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]
Places = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where the parts of a frame were in the frame that was encoded last.

    Attributes:
        flow: (m, n, 2) float32 over the whole picture: x and y from here to there, in shares of
            its width and height.
    """

    flow: FloatArray


def carry(dense: FloatArray, motion: Motion, *, size: Size, tiles: Tiles | None) -> FloatArray:
    """Move features along with the picture.

    A cell gets the features of the place where it was, interpolated between the four cells around
    it. They are of the cell's own window if that covers the place, else of the window with the
    nearest centre. A place outside of the picture counts as the nearest one inside.

    Args:
        dense: (h, w, D) float32 of the frame that was encoded, or (R, C, h, w, D) of its windows.
        motion: from the new frame to that one.
        size: (H, W) of the encoder's input, or of what its windows were cut from.
        tiles: where the windows lie in it; None without them.

    Returns:
        Of the new frame, shaped as `dense`.
    """
    tiles = tiles or Tiles(size, size, (0,), (0,))
    h, w, width = dense.shape[-3:]
    down = _Axis(tiles.rows, tiles.window[0], h)
    across = _Axis(tiles.columns, tiles.window[1], w)
    x, y = np.meshgrid(across.centres, down.centres)
    flow = _sample(motion.flow, x / size[1], y / size[0])
    rows = down.corners(y + size[0] * flow[..., 1], down.own[:, None])
    columns = across.corners(x + size[1] * flow[..., 0], across.own[None])
    table = _by_rows(dense, tiles).reshape(-1, width)
    found = np.zeros((*x.shape, width), np.float32)
    for row, share in rows:
        for column, part in columns:
            found += (share * part)[..., None] * table[row * len(across.own) + column]
    return _by_windows(found, tiles).reshape(dense.shape)


def _by_rows(dense: FloatArray, tiles: Tiles) -> FloatArray:
    """Windows side by side and below each other: (R, C, h, w, D) as (R * h, C * w, D)."""
    h, w, width = dense.shape[-3:]
    r, c = len(tiles.rows), len(tiles.columns)
    return dense.reshape(r, c, h, w, width).swapaxes(1, 2).reshape(r * h, c * w, width)


def _by_windows(dense: FloatArray, tiles: Tiles) -> FloatArray:
    """(R * h, C * w, D) as (R, C, h, w, D)."""
    r, c = len(tiles.rows), len(tiles.columns)
    h, w = dense.shape[0] // r, dense.shape[1] // c
    return dense.reshape(r, h, c, w, -1).swapaxes(1, 2)


def _sample(flow: FloatArray, x: Places, y: Places) -> FloatArray:
    """A flow (m, n, 2) at places in shares of the picture, interpolated."""
    columns = (x * flow.shape[1] - 0.5).astype(np.float32)
    rows = (y * flow.shape[0] - 0.5).astype(np.float32)
    found = cv2.remap(flow, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


class _Axis:
    """Windows along one axis, and their cells, numbered through.

    Args:
        starts: first pixel of each window, R or C of them.
        length: of a window in pixels.
        cells: along a window.

    Attributes:
        own: window of each cell.
        centres: of the cells, in pixels of the picture.
    """

    def __init__(self, starts: tuple[int, ...], length: int, cells: int) -> None:
        self._starts = np.array(starts, np.float32)
        self._length, self._cells = length, cells
        self.own = np.repeat(np.arange(len(starts)), cells)
        steps = (np.arange(cells, dtype=np.float32) + 0.5) * length / cells
        self.centres = np.ravel(self._starts[:, None] + steps)

    def corners(self, places: Places, own: IntArray) -> list[tuple[IntArray, FloatArray]]:
        """The two cells around each place, as numbers and weights.

        Args:
            places: in pixels of the picture, any shape.
            own: window to be preferred, of the same shape or one that broadcasts to it.
        """
        middles = self._starts + self._length / 2
        nearest = np.searchsorted((middles[1:] + middles[:-1]) / 2, places)
        covered = np.abs(places - middles[own]) <= self._length / 2
        window = np.where(covered, own, nearest)
        steps = (places - self._starts[window]) * self._cells / self._length - 0.5
        steps = np.clip(steps, 0, self._cells - 1)
        low = steps.astype(np.intp)
        high = np.minimum(low + 1, self._cells - 1)
        weight = (steps - low).astype(np.float32)
        first = window * self._cells
        return [(first + low, 1 - weight), (first + high, weight)]

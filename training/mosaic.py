"""Mosaics: square sheets of g x g images, made on the training device.

A images, g cells on a side, n x n patches of a cell, M mosaics, S side of a picture in pixels,
D embedding width
"""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from atas_deploy.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sheets:
    """Some mosaics of one kind.

    Attributes:
        count: M.
        grid: g, cells on a side.
        cell: side of a cell in pixels.
    """

    count: int
    grid: int
    cell: int

    @property
    def images(self) -> int:
        """A, how many images they hold."""
        return self.count * self.grid**2


def plan_sheets(images: int, *, grid: int, size: int, patch: int) -> list[Sheets]:
    """Lay out a batch so that every image has one cell.

    What does not fill a sheet of g x g cells goes to sheets of fewer, larger cells: 36 images at
    4 x 4 make two sheets of 4 x 4 and one of 2 x 2.

    Args:
        images: A, 0 or more.
        grid: g wanted.
        size: largest side of a sheet in pixels; sheets whose cells would not be whole patches are
            a little smaller.
        patch: side of a patch in pixels.

    Returns:
        Sheets in the order of the images.

    Raises:
        ConfigError: a cell would be smaller than a patch.
    """
    sheets = []
    while images > 0:
        side = min(grid, math.isqrt(images))
        cell = size // (side * patch) * patch
        if cell == 0:
            raise ConfigError(
                f"A mosaic of {side} x {side} cells does not fit {size} pixels with patches of "
                f"{patch}; use a size of {side * patch} at least, or smaller grids."
            )
        count = images // side**2
        sheets.append(Sheets(count, side, cell))
        images -= count * side**2
    return sheets


def make_mosaics(pictures: Tensor, sheets: Sheets) -> Tensor:
    """Put images into the cells of mosaics, row by row.

    Args:
        pictures: (A, 3, S, S) float; resized to the cells with antialiasing.
        sheets: A of them.

    Returns:
        (M, 3, g * cell, g * cell).
    """
    g, cell = sheets.grid, sheets.cell
    if pictures.shape[-1] != cell:
        pictures = F.interpolate(pictures, size=(cell, cell), mode="bilinear", antialias=True)
    tiles = pictures.reshape(sheets.count, g, g, 3, cell, cell)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(sheets.count, 3, g * cell, g * cell)


def split_cells(patches: Tensor, *, grid: int) -> Tensor:
    """Take the patches of mosaics apart by cell, in the order of the images.

    Args:
        patches: (M, g * n, g * n, D).
        grid: g.

    Returns:
        (M * g * g, n, n, D).
    """
    count, side, _, width = patches.shape
    n = side // grid
    return patches.reshape(count, grid, n, grid, n, width).transpose(2, 3).flatten(0, 2)

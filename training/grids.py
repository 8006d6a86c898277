"""Random grids over a picture, whose cells are CLIPSelf's regions.

m x n cells of a grid, H W pixels of a picture, K regions
"""

import numpy as np
import numpy.typing as npt

from atas_deploy.core.geometry import Size

Boxes = npt.NDArray[np.float64]


def grid_shapes(largest: int) -> list[tuple[int, int]]:
    """Shapes (m, n) of grids: m and n up to `largest`, neither more than twice the other."""
    sides = range(1, largest + 1)
    return [(m, n) for m in sides for n in sides if m <= 2 * n and n <= 2 * m]


def grid_cells(size: Size, shape: tuple[int, int]) -> Boxes:
    """Cut a picture into a grid; every pixel is in one cell.

    Args:
        size: (H, W).
        shape: (m, n), m <= H and n <= W.

    Returns:
        (m * n, 4) xyxy, whole pixels, row by row.
    """
    y, x = (
        np.floor(np.arange(count + 1) * side / count + 0.5)
        for side, count in zip(size, shape, strict=True)
    )
    rows, columns = (axis.ravel() for axis in np.mgrid[: shape[0], : shape[1]])
    return np.stack([x[columns], y[rows], x[columns + 1], y[rows + 1]], axis=1)


def draw_cells(size: Size, rng: np.random.Generator, *, largest: int, most: int) -> Boxes:
    """Draw a grid, all shapes being equally likely, and some of its cells.

    A picture that has fewer pixels on a side than a grid has cells does not get that grid.

    Args:
        size: (H, W) of the picture.
        rng: what is drawn.
        largest: M, most cells on a side of the grid.
        most: K at most.

    Returns:
        (K, 4) xyxy in pixels, in random order.

    Source: Wu et al., "CLIPSelf", ICLR 2024, section 3.2; its code, `GridDistillDataset`.
    """
    shapes = [(m, n) for m, n in grid_shapes(largest) if m <= size[0] and n <= size[1]]
    cells = grid_cells(size, shapes[int(rng.integers(len(shapes)))])
    return cells[rng.permutation(len(cells))[:most]]

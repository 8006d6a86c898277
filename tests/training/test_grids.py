"""Random grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.training.grids import draw_cells, grid_cells, grid_shapes


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sizes of small pictures with shapes that fit them."""
    m, n = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return (draw(st.integers(m, 40)), draw(st.integers(n, 40))), (m, n)


@given(grids())
def test_every_pixel_is_in_one_cell(grid: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """The cells of a grid cover the picture without overlap, and none is empty."""
    size, shape = grid
    hits = np.zeros(size, int)
    cells = grid_cells(size, shape)
    for x0, y0, x1, y1 in cells.astype(int):
        assert x0 < x1
        assert y0 < y1
        hits[y0:y1, x0:x1] += 1
    assert len(cells) == shape[0] * shape[1]
    assert (hits == 1).all()


@given(grids())
def test_cells_are_alike(grid: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """Edges lie within half a pixel of where equal cells would have them, in row order."""
    (height, width), (m, n) = grid
    wanted = [
        [j * width / n, i * height / m, (j + 1) * width / n, (i + 1) * height / m]
        for i in range(m)
        for j in range(n)
    ]
    assert np.abs(grid_cells((height, width), (m, n)) - wanted).max() <= 0.5


def test_shapes_as_published() -> None:
    """With M = 6 there are the 24 shapes that CLIPSelf's loop over m and n gives."""
    published = [(m, n) for m in range(1, 7) for n in range((m + 1) // 2, min(2 * m + 1, 7))]
    assert sorted(grid_shapes(6)) == sorted(published)
    assert (1, 2) in published
    assert (1, 3) not in published


@pytest.mark.parametrize("most", [1, 7, 20])
def test_at_most_so_many_cells(most: int) -> None:
    """No draw has more cells than asked for, and none has a cell twice."""
    for seed in range(60):
        cells = draw_cells((50, 70), np.random.default_rng(seed), largest=6, most=most)
        assert 1 <= len(cells) <= most
        assert len(np.unique(cells, axis=0)) == len(cells)


def test_all_shapes_are_drawn_equally_often() -> None:
    """Each number of cells comes as often as the shapes that have it."""
    rng = np.random.default_rng(0)
    counts = np.zeros(37)
    for _ in range(2000):
        counts[len(draw_cells((60, 60), rng, largest=6, most=36))] += 1
    shapes = grid_shapes(6)
    wanted = np.bincount([m * n for m, n in shapes], minlength=37) / len(shapes)
    assert np.abs(counts / 2000 - wanted).max() < 0.04


def test_some_cells_of_a_large_grid() -> None:
    """Which 20 of 36 cells are taken differs, and every cell is taken at times."""
    found = set()
    for seed in range(300):
        cells = draw_cells((36, 36), np.random.default_rng(seed), largest=6, most=20)
        sixths = [tuple(cell) for cell in cells.astype(int) if cell[2] - cell[0] == 6]
        found |= {cell for cell in sixths if cell[3] - cell[1] == 6}
    assert len(found) == 36


def test_the_generator_alone_decides() -> None:
    """Equal seeds give equal cells, others do not."""

    def draw(seed: int) -> list[list[float]]:
        return draw_cells((90, 80), np.random.default_rng(seed), largest=6, most=20).tolist()

    assert draw(3) == draw(3)
    assert len({str(draw(seed)) for seed in range(10)}) > 5


def test_a_strip_gets_no_empty_cell() -> None:
    """A picture two pixels high has no grid of three rows."""
    for seed in range(40):
        cells = draw_cells((2, 300), np.random.default_rng(seed), largest=6, most=36)
        assert (cells[:, 3] > cells[:, 1]).all()

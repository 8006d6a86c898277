"""Mosaics: every image in one cell, and every cell's patches back again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.mosaic import Sheets, make_mosaics, plan_sheets, split_cells


@given(images=st.integers(0, 200), grid=st.integers(1, 6))
def test_plan_gives_every_image_one_cell(images: int, grid: int) -> None:
    """The cells of a plan are as many as the images."""
    sheets = plan_sheets(images, grid=grid, size=448, patch=16)
    assert sum(some.images for some in sheets) == images
    assert all(1 <= some.grid <= grid and some.count >= 1 for some in sheets)


def test_plan_prefers_the_grid_drawn_and_fills_up_with_fewer_larger_cells() -> None:
    """36 images at 4 x 4 are two such sheets and one of 2 x 2."""
    assert plan_sheets(36, grid=4, size=448, patch=16) == [Sheets(2, 4, 112), Sheets(1, 2, 224)]


@given(grid=st.integers(1, 6), size=st.integers(96, 960), patch=st.sampled_from([14, 16]))
def test_cells_are_whole_patches_and_sheets_fit(grid: int, size: int, patch: int) -> None:
    """Cells are the largest multiple of the patch with which a sheet does not exceed the size."""
    (sheets,) = plan_sheets(grid**2, grid=grid, size=size, patch=patch)
    assert sheets.cell % patch == 0
    assert sheets.cell * grid <= size < (sheets.cell + patch) * grid


def test_plan_refuses_cells_smaller_than_a_patch() -> None:
    """The message names the size that would do."""
    with pytest.raises(ConfigError, match="use a size of 96 at least"):
        plan_sheets(36, grid=6, size=90, patch=16)


def test_mosaic_shows_the_images_row_by_row() -> None:
    """Image 1 is at the top right, image 2 at the bottom left, image 4 begins the next sheet."""
    pictures = torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 3, 4, 4)
    mosaics = make_mosaics(pictures, Sheets(2, 2, 4))
    assert mosaics.shape == (2, 3, 8, 8)
    corners = mosaics[:, 0, ::4, ::4]
    assert corners.tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_mosaic_keeps_the_pixels_of_images_of_the_cells_size() -> None:
    """Nothing is resized that fits."""
    pictures = torch.rand(4, 3, 16, 16)
    mosaic = make_mosaics(pictures, Sheets(1, 2, 16))[0]
    assert torch.equal(mosaic[:, :16, 16:], pictures[1])


def test_mosaic_shrinks_with_antialiasing() -> None:
    """A fine checkerboard becomes grey, not black or white."""
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    pictures = board.float().expand(4, 3, 64, 64)
    mosaic = make_mosaics(pictures, Sheets(1, 2, 16))
    assert (mosaic - 0.5).abs().max() < 0.1


@given(count=st.integers(1, 3), grid=st.integers(1, 4), n=st.integers(1, 4))
def test_split_cells_finds_each_images_patches(count: int, grid: int, n: int) -> None:
    """Pixels put into a mosaic come back with their image, in order."""
    images = count * grid**2
    pictures = torch.rand(images, 3, n, n)
    mosaics = make_mosaics(pictures, Sheets(count, grid, n))
    cells = split_cells(mosaics.permute(0, 2, 3, 1), grid=grid)
    assert torch.equal(cells, pictures.permute(0, 2, 3, 1))

"""Grids of pictures with captions."""

import numpy as np
import pytest

from atas_deploy.media.heat import heat_colors
from atas_deploy.media.montage import Block, Panel, montage


def panel(value: int, caption: str = "caption", **settings: tuple[float, float]) -> Panel:
    """A picture of one value, (60, 300, 3)."""
    return Panel(np.full((60, 300, 3), value, np.uint8), caption, **settings)


def count(grid: np.ndarray, value: int) -> int:
    """Pixels that have a value in all channels."""
    return int((grid == value).all(axis=-1).sum())


def test_every_panel_is_shown_whole() -> None:
    """Each picture's pixels are in the grid, no two over each other."""
    blocks = [Block("one", [panel(10), panel(40)]), Block("two", [panel(70), panel(100)])]
    grid = montage(blocks, room=4 * 300)
    assert [count(grid, value) for value in (10, 40, 70, 100)] == 4 * [60 * 300]


def test_panels_wrap_into_even_rows() -> None:
    """Five panels with room for four: in rows of three, as wide as three and two rows high."""
    five = montage([Block("one", [panel(10 * i) for i in range(1, 6)])], room=4 * 300)
    three = montage([Block("one", [panel(10), panel(20), panel(30)])], room=4 * 300)
    assert five.shape[1] == three.shape[1]
    assert five.shape[0] - three.shape[0] == 60 + 2 * 12


@pytest.mark.parametrize("width", [1, 6, 40, 120])
def test_narrow_panels_have_room_for_their_scale(width: int) -> None:
    """Columns are wider than they; the colour bar and the panel are whole."""
    narrow = Panel(np.full((60, width, 3), 130, np.uint8), "similarity", (-0.25, 1.0))
    wide = panel(130, "similarity", scale=(-0.25, 1.0))
    bars = []
    for one in (narrow, wide):
        grid = montage([Block("b", [one])], room=600)
        assert count(grid, 130) == one.image.shape[0] * one.image.shape[1]
        colors = {tuple(color) for color in heat_colors().tolist()}
        bars.append(sum(tuple(pixel) in colors for pixel in grid.reshape(-1, 3).tolist()))
    assert bars[0] > 0.9 * bars[1]


def test_narrow_panels_share_a_row() -> None:
    """Two of 100 pixels stand side by side where two columns of captions have room."""
    pair = [Panel(np.full((60, 100, 3), 10, np.uint8), "a") for _ in range(2)]
    side_by_side, below = (montage([Block("b", pair)], room=room) for room in (600, 300))
    assert side_by_side.shape[1] > below.shape[1]
    assert side_by_side.shape[0] < below.shape[0]


def test_a_scale_is_drawn_with_its_ends() -> None:
    """The caption's line holds the colours of the heat map."""
    without = montage([Block("b", [panel(10)])], room=300)
    grid = montage([Block("b", [panel(10, scale=(-0.25, 1.0))])], room=300)
    colors = {tuple(color) for color in heat_colors().tolist()}
    drawn = {tuple(pixel) for pixel in grid.reshape(-1, 3).tolist()}
    assert len(colors & drawn) > 20
    assert grid.shape == without.shape


def test_captions_that_are_too_long_are_cut() -> None:
    """They do not run into the next panel: the gap beside stays white."""
    grid = montage([Block("b" * 500, [panel(10, "long " * 50), panel(20)])], room=2 * 300)
    gap = grid[:, 12 + 300 : 12 + 300 + 12]
    below_heading = 24 + 12
    assert (gap[below_heading:] == 255).all()

"""Heat maps and colours of cells over a picture."""

import cv2
import numpy as np
import pytest

from atas_deploy.media.heat import (
    enlarge,
    heat_colors,
    mark_cell,
    paint_colors,
    paint_heat,
    strongest_cells,
)

GREY = np.full((60, 80, 3), 100, np.uint8)


def test_lightness_grows_with_the_value() -> None:
    """More is lighter, so that the scale can be read without colours."""
    grey = cv2.cvtColor(heat_colors()[None], cv2.COLOR_RGB2GRAY)[0].astype(int)
    assert (np.diff(grey) >= -1).all()
    assert grey[0] < 5
    assert grey[255] > 240


def test_enlarging_stays_in_range() -> None:
    """Bicubic interpolation overshoots at steps; what is drawn does not."""
    step = np.array([[0, 0, 1, 1]], np.float32)
    got = enlarge(step, (8, 64))
    assert got.shape == (8, 64)
    assert (got.min(), got.max()) == (0, 1)


def test_heat_is_the_stated_mixture() -> None:
    """Half of the colour of the value, half of the picture, which has no colour here."""
    cells = np.full((3, 4), 0.5, np.float32)
    got = paint_heat(GREY, cells, low=0, high=2, opacity=0.5)
    wanted = (heat_colors()[round(0.25 * 255)].astype(float) + 100) / 2
    np.testing.assert_allclose(got[30, 40], wanted, atol=1.5)


def test_values_beyond_the_scale_have_its_end_colours() -> None:
    """Neither wraps around."""
    got = paint_heat(GREY, np.array([[-9, 9]], np.float32), low=0, high=1, opacity=1)
    np.testing.assert_array_equal(got[0, 0], heat_colors()[0])
    np.testing.assert_array_equal(got[0, -1], heat_colors()[255])


def test_a_constant_map_is_drawn() -> None:
    """Without a division by zero."""
    cells = np.full((3, 4), 0.3, np.float32)
    got = paint_heat(GREY, cells, low=0.3, high=0.3, opacity=1)
    assert (got == got[0, 0]).all()


def test_colors_are_the_stated_mixture() -> None:
    """A quarter of the cells' colour."""
    cells = np.full((2, 2, 3), (1, 0.5, 0), np.float32)
    got = paint_colors(GREY, cells, opacity=0.25)
    np.testing.assert_allclose(got[0, 0], (138.75, 107, 75), atol=1)


def test_the_strongest_score_wins_each_pixel() -> None:
    """As after interpolation of all scores by OpenCV; the lowest number on ties."""
    scores = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    scores[..., 5] = scores[..., 2]
    maps = [cv2.resize(scores[..., k], (80, 60), interpolation=cv2.INTER_LINEAR) for k in range(6)]
    np.testing.assert_array_equal(strongest_cells(scores, (60, 80)), np.argmax(maps, axis=0))


def test_the_frame_lies_around_the_cell() -> None:
    """Its pixels are kept; those around it are white, then black."""
    image = np.full((320, 400, 3), 100, np.uint8)
    marked = mark_cell(image, (1, 2), (4, 5))
    assert (marked[80:160, 160:240] == 100).all()
    for row in (79, 160):
        assert (marked[row, 160:240] == 255).all()
    for row in (75, 164):
        assert (marked[row, 160:240] == 0).all()
    assert (marked[:70] == 100).all()
    assert (image == 100).all()


@pytest.mark.parametrize("cell", [(0, 0), (3, 4)])
def test_a_frame_at_the_border_is_cut(cell: tuple[int, int]) -> None:
    """The cell itself is still kept."""
    image = np.full((320, 400, 3), 100, np.uint8)
    marked = mark_cell(image, cell, (4, 5))
    top, left = 80 * cell[0], 80 * cell[1]
    assert (marked[top : top + 80, left : left + 80] == 100).all()
    assert (marked != 100).any()

"""Features that move along with the picture."""

import numpy as np
import pytest

from atas_deploy.core.geometry import Tiles, cut_tiles
from atas_deploy.runtime.carry import Motion, carry


def moved_by(y: float, x: float) -> Motion:
    """Everything was (y, x) further down and across, in shares of the picture."""
    flow = np.empty((5, 7, 2), np.float32)
    flow[...] = x, y
    return Motion(flow)


def centres(tiles: Tiles, h: int, w: int) -> np.ndarray:
    """(R, C, h, w, 2) y and x of the cells of windows, in pixels of the picture."""
    found = np.empty((len(tiles.rows), len(tiles.columns), h, w, 2), np.float32)
    for r, top in enumerate(tiles.rows):
        for c, left in enumerate(tiles.columns):
            for i in range(h):
                for j in range(w):
                    y, x = (i + 0.5) * tiles.window[0] / h, (j + 0.5) * tiles.window[1] / w
                    found[r, c, i, j] = top + y, left + x
    return found


def test_without_motion_features_stay() -> None:
    """Of a picture and of windows."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(6, 9, 4)).astype(np.float32)
    found = carry(dense, moved_by(0, 0), size=(96, 144), tiles=None)
    np.testing.assert_allclose(found, dense, atol=1e-5)
    tiles = cut_tiles((96, 144), window=48, stride=20)
    windows = rng.normal(size=(len(tiles.rows), len(tiles.columns), 3, 3, 4)).astype(np.float32)
    found = carry(windows, moved_by(0, 0), size=(96, 144), tiles=tiles)
    np.testing.assert_allclose(found, windows, atol=1e-5)


def test_whole_cells() -> None:
    """A cell gets the features of the cell it was in; what comes in has those of the border."""
    dense = np.random.default_rng(0).normal(size=(6, 9, 4)).astype(np.float32)
    found = carry(dense, moved_by(1 / 6, -2 / 9), size=(96, 144), tiles=None)
    expected = dense[[1, 2, 3, 4, 5, 5]][:, [0, 0, 0, 1, 2, 3, 4, 5, 6]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_place_has_its_own_motion() -> None:
    """Features are interpolated where each cell was, as written out in a loop."""
    rng = np.random.default_rng(0)
    h, w = 6, 9
    dense = rng.normal(size=(h, w, 4)).astype(np.float32)
    flow = rng.uniform(-0.3, 0.3, (h, w, 2)).astype(np.float32)  # one for each cell
    found = carry(dense, Motion(flow), size=(96, 144), tiles=None)
    for i in range(h):
        for j in range(w):
            y = min(max(i + h * float(flow[i, j, 1]), 0), h - 1)
            x = min(max(j + w * float(flow[i, j, 0]), 0), w - 1)
            expected = sum(
                max(0, 1 - abs(y - a)) * max(0, 1 - abs(x - b)) * dense[a, b].astype(float)
                for a in range(h)
                for b in range(w)
            )
            np.testing.assert_allclose(found[i, j], expected, atol=1e-4)


@pytest.mark.parametrize(("window", "stride"), [(48, 20), (48, 48), (200, 100)])
def test_features_come_from_the_window_that_covers_the_place(window: int, stride: int) -> None:
    """If features are places, a cell gets the place where it was, whatever window that is in."""
    size = (96, 144)
    tiles = cut_tiles(size, window=window, stride=stride)
    places = centres(tiles, 6, 6)
    found = carry(places, moved_by(0.2, -0.15), size=size, tiles=tiles)
    y, x = places[..., 0] + 0.2 * 96, places[..., 1] - 0.15 * 144
    half = tiles.window[0] / 12, tiles.window[1] / 12  # of a cell, which features end short of
    assert np.abs(found[..., 0] - np.clip(y, 0, 96)).max() <= half[0] + 1e-3
    assert np.abs(found[..., 1] - np.clip(x, 0, 144)).max() <= half[1] + 1e-3


def test_the_own_window_is_preferred() -> None:
    """As long as it covers the place; another one sees it in other surroundings."""
    tiles = cut_tiles((48, 96), window=48, stride=24)
    own = np.empty((1, 3, 3, 3, 1), np.float32)
    own[...] = np.arange(3)[None, :, None, None, None]  # features tell the window
    found = carry(own, moved_by(0, 1 / 6), size=(48, 96), tiles=tiles)[0, :, :, :, 0]
    np.testing.assert_array_equal(found[0], [[0, 0, 1]] * 3)
    np.testing.assert_array_equal(found[2], [[2, 2, 2]] * 3)


def test_a_grid_of_one_cell() -> None:
    """It has nothing to move to."""
    dense = np.ones((1, 1, 4), np.float32)
    np.testing.assert_array_equal(
        carry(dense, moved_by(0.5, 0.5), size=(16, 16), tiles=None), dense
    )

"""Features in 8 bits: how exact they are, and how they stay small."""

import base64

import numpy as np
import pytest

from atas_deploy.core.vectors import unit
from atas_deploy.runtime.visual import pack as packing
from atas_deploy.runtime.visual.pack import (
    cells_that_fit,
    fit,
    levels,
    pack,
    text,
    words_that_fit,
)


def features(h: int, w: int, width: int) -> np.ndarray:
    """Unit vectors (h, w, D)."""
    return unit(np.random.default_rng(width).normal(size=(h, w, width)).astype(np.float32))


@pytest.mark.parametrize("width", [24, 256, 1024])
def test_cosines_of_packed_features_are_exact_to_a_hundredth(width: int) -> None:
    """The largest error over all pairs."""
    dense = features(6, 8, width)
    packed = pack(dense)
    restored = packed.values * packed.scales[..., None].astype(np.float64)
    cells, approximate = (part.reshape(-1, width) for part in (dense, restored))
    assert np.abs(cells @ cells.T - approximate @ approximate.T).max() < 0.01


def test_the_largest_value_uses_the_whole_range() -> None:
    """Each vector has a scale of its own; zeros stay zeros."""
    packed = pack(np.array([[[0.1, -0.05], [0, -4], [0, 0]]], np.float32))
    np.testing.assert_array_equal(packed.values, [[[127, -64], [0, -127], [0, 0]]])


def test_what_fits_is_not_touched() -> None:
    """The very same array."""
    dense = features(4, 4, 8)
    assert fit(dense, 4 * 4) is dense


def test_what_does_not_fit_is_averaged() -> None:
    """Half the sides: each new cell is the direction of the mean of four."""
    dense = features(4, 6, 8)
    got = fit(dense, 2 * 3)
    wanted = unit(dense.reshape(2, 2, 3, 2, 8).mean(axis=(1, 3)))
    np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("grid", [(10, 10), (60, 80), (400, 300)])
@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("words", [0, 3, 1200, 30_000])
def test_features_and_words_stay_within_the_bytes(
    grid: tuple[int, int], models: int, words: int
) -> None:
    """Features, words twice, a scale, a colour and a cluster for each cell of all models."""
    width = 512
    some = words_that_fit(models * [(*grid, width)], words)
    cells = min(cells_that_fit(width, some, models=models), grid[0] * grid[1])
    assert models * cells * (width + 2 * some + 8) <= packing.MAX_BYTES
    assert min(words, 64) <= some <= words
    if some < words:  # as many as fit: with the next one the grid would have to be coarser
        more = models * grid[0] * grid[1] * (width + 2 * (some + 1) + 8)
        assert more > packing.MAX_BYTES


def test_levels_are_rounded_and_clipped() -> None:
    """0 to 255 from low to high."""
    got = levels(np.array([-3, -1, 0, 1, 2], np.float32), -1, 1)
    np.testing.assert_array_equal(got, [0, 0, 128, 255, 255])


def test_text_is_little_endian() -> None:
    """Whatever the order of bytes here."""
    assert base64.b64decode(text(np.array([1.5], ">f4"))) == np.array([1.5], "<f4").tobytes()

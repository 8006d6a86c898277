"""Embeddings of boxes and masks from the features of their picture."""

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.geometry import cut_tiles
from atas_deploy.core.region import Region
from atas_deploy.core.regions import pool_boxes, pool_masks
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.regions.pool import pool_regions

SIZE = (48, 80)


def encoded(grid: tuple[int, int] = (6, 10), *, seed: int = 0) -> Encoded:
    """A picture of 48 x 80 pixels with random unit features of width 5."""
    dense = np.random.default_rng(seed).normal(size=(*grid, 5)).astype(np.float32)
    dense /= np.linalg.norm(dense, axis=-1, keepdims=True)
    return Encoded(SIZE, np.zeros((*SIZE, 3), np.uint8), dense)


def random_regions(count: int, *, seed: int = 0) -> list[Region]:
    """Boxes and masks of ellipses, in turn; masks overlap."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    regions = []
    for index in range(count):
        left, top = rng.uniform(0, 60), rng.uniform(0, 30)
        width, height = rng.uniform(3, 20), rng.uniform(3, 18)
        if index % 2:
            regions.append(Region(box=(left, top, left + width, top + height)))
        else:
            inside = ((x - left - 10) / width) ** 2 + ((y - top - 9) / height) ** 2 < 1
            regions.append(Region.from_mask(inside))
    return regions


def test_boxes_and_masks_keep_their_order() -> None:
    """Each gets what its kind of pooling gives, computed apart."""
    picture, regions = encoded(), random_regions(9)
    found = pool_regions(picture, regions)
    for region, embedding in zip(regions, found, strict=True):
        if region.rle is None:
            expected = pool_boxes(picture.dense, [region.box], size=SIZE)
        else:
            expected = pool_masks(picture.dense, [region.mask()])
        np.testing.assert_allclose(embedding, expected[0], atol=1e-6)


def test_mask_on_whole_cells_is_their_mean() -> None:
    """Written out: cells of 8 x 8 pixels, two masks that share some."""
    picture = encoded()
    masks = np.zeros((2, *SIZE), np.bool_)
    masks[0, 8:24, 16:48] = True
    masks[1, 16:40, 32:64] = True
    found = pool_regions(picture, [Region.from_mask(mask) for mask in masks])
    cells = picture.dense.astype(np.float64)
    for mean, embedding in zip(
        (cells[1:3, 2:6].mean(axis=(0, 1)), cells[2:5, 4:8].mean(axis=(0, 1))), found, strict=True
    ):
        np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), atol=1e-6)


def test_masks_are_decoded_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more at once than the limit allows, with the same result."""
    picture, regions = encoded(), random_regions(25)
    whole = pool_regions(picture, regions)
    sizes: list[int] = []

    def watched(dense: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
        sizes.append(len(masks))
        return pool_masks(dense, masks)

    monkeypatch.setattr("atas_deploy.runtime.regions.pool.pool_masks", watched)
    monkeypatch.setattr("atas_deploy.runtime.regions.pool._PIXELS", 4 * SIZE[0] * SIZE[1])
    np.testing.assert_allclose(pool_regions(picture, regions), whole, atol=1e-6)
    assert sizes == [4, 4, 4, 1]


def test_order_of_the_regions_does_not_matter() -> None:
    """Regions in another order get their embeddings in that order."""
    picture, regions = encoded(), random_regions(12)
    order = np.random.default_rng(1).permutation(12)
    shuffled = pool_regions(picture, [regions[index] for index in order])
    np.testing.assert_allclose(shuffled, pool_regions(picture, regions)[order], atol=1e-6)


def test_region_outside_is_zero() -> None:
    """Nothing of the picture lies in it; nor in one without area."""
    boxes = [(200, 5, 220, 20), (-60, -60, -40, -40), (5, 5, 5, 30)]
    found = pool_regions(encoded(), [Region(box=box) for box in boxes])
    assert not found.any()


def test_no_regions() -> None:
    """Empty lists are lists."""
    assert pool_regions(encoded(), []).shape == (0, 5)


def test_box_that_is_not_finite_is_refused() -> None:
    """One that holds NaN."""
    with pytest.raises(InputError, match="finite numbers"):
        pool_regions(encoded(), [Region(box=(0, 0, np.nan, 4))])


def test_windows_merged_as_pixels_are_refused() -> None:
    """Their features are no map of the picture."""
    tiles = cut_tiles(SIZE, window=32, stride=16)
    windows = np.zeros((2, 4, 4, 4, 5), np.float32)
    picture = Encoded(SIZE, np.zeros((*SIZE, 3), np.uint8), windows, tiles)
    with pytest.raises(ConfigError, match="merged as pixels; merge features"):
        pool_regions(picture, [])

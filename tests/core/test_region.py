"""Regions and the names they got."""

import numpy as np
import pytest

from atas_deploy.core.region import NamedRegions, Region


def test_mask_gives_the_tightest_box_and_comes_back() -> None:
    """Also with a hole and two parts; right and lower ends are exclusive."""
    mask = np.zeros((9, 12), np.bool_)
    mask[2:7, 3:8] = True
    mask[4, 5] = False
    mask[8, 10] = True
    region = Region.from_mask(mask, category=2, track=7)
    assert region.box == (3, 2, 11, 9)
    assert region.size == (7, 8)
    assert (region.category, region.track) == (2, 7)
    np.testing.assert_array_equal(region.mask(), mask)


def test_every_pixel_alone_is_a_box_of_one_by_one() -> None:
    """A mask of one pixel, in the last corner."""
    mask = np.zeros((4, 6), np.bool_)
    mask[3, 5] = True
    assert Region.from_mask(mask).box == (5, 3, 6, 4)


def test_box_has_no_mask() -> None:
    """To ask for it is a mistake of the caller."""
    with pytest.raises(ValueError, match="a box has no mask"):
        Region(box=(0, 0, 1, 1)).mask()


def test_names_are_told_by_rank() -> None:
    """Label 0 is background, label i the class i - 1."""
    labels = np.array([[2, 1], [0, 2]])
    regions = (Region(box=(0, 0, 1, 1)), Region(box=(0, 0, 2, 2)))
    named = NamedRegions(regions, ("dog", "cat"), labels, np.ones((2, 2), np.float32))
    assert len(named) == 2
    names = [[named.name(index, rank) for rank in range(2)] for index in range(2)]
    assert names == [["cat", "dog"], ["background", "cat"]]

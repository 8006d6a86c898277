"""Sizes on the patch grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.geometry import MAX_PATCHES, encoder_size, resize_image

SIDES = st.integers(1, 20_000)


@given(height=SIDES, width=SIDES, patches=st.integers(1, 128), patch_size=st.sampled_from([14, 16]))
def test_sizes_are_patch_multiples_within_the_limit(
    height: int, width: int, patches: int, patch_size: int
) -> None:
    """Any image fits the grid, however long."""
    size = encoder_size((height, width), short_side=patches * patch_size, patch_size=patch_size)
    rows, columns = (side // patch_size for side in size)
    assert (rows * patch_size, columns * patch_size) == size
    assert rows >= 1
    assert columns >= 1
    assert rows * columns <= MAX_PATCHES


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((720, 1280), (336, 592)),
        ((1280, 720), (592, 336)),
        ((50, 50), (336, 336)),
        ((1, 300), (16, 2016)),
    ],
)
def test_short_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """The shorter side gets the wanted length, the other keeps the ratio."""
    assert encoder_size(size, short_side=336, patch_size=16) == expected


@pytest.mark.parametrize("short_side", [0, 15, -3, 100_000])
def test_bad_short_side(short_side: int) -> None:
    """Less than a patch, or more than memory, is refused."""
    with pytest.raises(ConfigError, match="short side"):
        encoder_size((100, 100), short_side=short_side, patch_size=16)


def test_resize_keeps_flat_colour() -> None:
    """A flat image stays flat, up and down."""
    image = np.full((20, 30, 3), 77, np.uint8)
    for size in [(16, 16), (64, 96)]:
        assert (resize_image(image, size) == 77).all()
        assert resize_image(image, size).shape == (*size, 3)

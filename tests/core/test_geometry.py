"""Sizes on the patch grid."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.geometry import (
    MAX_PATCHES,
    Tiles,
    cut_tiles,
    encoder_size,
    exact_size,
    resize_bilinear,
    resize_image,
)

SIDES = st.integers(1, 20_000)


@given(height=SIDES, width=SIDES, patches=st.integers(1, 128), patch_size=st.sampled_from([14, 16]))
def test_sizes_are_patch_multiples_within_the_limit(
    height: int, width: int, patches: int, patch_size: int
) -> None:
    """Any image fits the grid, however long."""
    size = encoder_size((height, width), short_side=patches * patch_size, multiple=patch_size)
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
    assert encoder_size(size, short_side=336, multiple=16) == expected


@pytest.mark.parametrize("short_side", [0, 15, -3, 100_000])
def test_bad_short_side(short_side: int) -> None:
    """Less than a patch, or more than memory, is refused."""
    with pytest.raises(ConfigError, match="short side"):
        encoder_size((100, 100), short_side=short_side, multiple=16)


@pytest.mark.parametrize("resize", [resize_image, resize_bilinear])
def test_resize_keeps_flat_colour(resize: Callable[..., np.ndarray]) -> None:
    """A flat image stays flat, up and down."""
    image = np.full((20, 30, 3), 77, np.uint8)
    for size in [(3, 5), (16, 16), (64, 96)]:
        assert (resize(image, size) == 77).all()
        assert resize(image, size).shape == (*size, 3)


@pytest.mark.parametrize(("side", "seen"), [(48, False), (24, True)])
def test_every_pixel_counts_in_a_small_copy(side: int, seen: bool) -> None:
    """Published sizes are sampled as they were; below a quarter a single bright pixel shows."""
    image = np.zeros((120, 120, 3), np.uint8)
    image[2, 2] = 255
    assert (resize_bilinear(image, (side, side)).max() > 0) == seen


@given(
    height=SIDES, width=SIDES, short_side=st.integers(32, 1000), cell=st.sampled_from([8, 14, 16])
)
def test_exact_sizes(height: int, width: int, short_side: int, cell: int) -> None:
    """The short side to the pixel unless the image is too long; never too many cells."""
    size = exact_size((height, width), short_side=short_side, cell=cell)
    assert size[0] * size[1] <= (MAX_PATCHES + sum(size) / cell + 1) * cell**2
    longest = max(2048, 6 * short_side)
    assert max(size) <= longest
    ratio = max(height, width) / min(height, width)
    if ratio * short_side < longest - 1 and ratio * (short_side / cell) ** 2 < MAX_PATCHES:
        assert min(size) == short_side


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((375, 500), 336, (336, 448)),
        ((720, 1280), 336, (336, 597)),  # 597.3
        ((427, 640), 336, (336, 504)),  # 503.6
        ((1024, 2048), 560, (560, 1120)),
        ((2, 5), 3, (3, 8)),  # 7.5, half up
        ((100, 1000), 336, (205, 2048)),
    ],
)
def test_exact_sizes_of_data_sets(
    size: tuple[int, int], short_side: int, expected: tuple[int, int]
) -> None:
    """As the resize of the published test pipelines, scale (2048, short side)."""
    assert exact_size(size, short_side=short_side, cell=16) == expected


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 120), st.data())
def test_tiles_are_those_of_the_published_loop(
    height: int, width: int, window: int, data: st.DataObject
) -> None:
    """As many as the formula says, each shifted back to end with the image."""
    stride = data.draw(st.integers(1, window))
    expected = []
    for length in (height, width):
        count = max(length - window + stride - 1, 0) // stride + 1
        ends = [min(i * stride + window, length) for i in range(count)]
        expected.append(tuple(max(end - window, 0) for end in ends))
    tiles = cut_tiles((height, width), window=window, stride=stride)
    inner = min(window, height), min(window, width)
    assert tiles == Tiles((height, width), inner, *expected)


def test_cells_may_be_smaller_than_a_patch() -> None:
    """With a patch stride of 8 the grid is finer and sizes are multiples of 16."""
    size = encoder_size((720, 1280), short_side=336, multiple=16, cell=8)
    assert size == (336, 592)
    long = encoder_size((4000, 4000), short_side=1024, multiple=16, cell=8)
    assert long == (1024, 1024)
    with pytest.raises(ConfigError, match=r"16 .* to 1024"):
        encoder_size((100, 100), short_side=1040, multiple=16, cell=8)

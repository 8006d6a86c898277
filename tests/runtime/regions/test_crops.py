"""Boxes cut out of a picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from atas_deploy.runtime.regions.crops import cut_crop

PIXELS = np.arange(20 * 30 * 3, dtype=np.int64).astype(np.uint8).reshape(20, 30, 3)
EDGES = st.floats(-40, 60, width=32)


@pytest.mark.parametrize("box", [(3, 4, 17, 12), (0, 0, 30, 20), (29, 19, 30, 20)])
def test_whole_pixels_are_cut_as_pillow_cuts(box: tuple[int, int, int, int]) -> None:
    """A box inside, the whole picture, and its last pixel."""
    found = cut_crop(PIXELS, box)
    np.testing.assert_array_equal(found, np.asarray(Pillow.fromarray(PIXELS).crop(box)))


def test_edges_are_rounded_to_pixels() -> None:
    """Halves up, as is the picture's border for what reaches outside."""
    np.testing.assert_array_equal(cut_crop(PIXELS, (2.4, 3.5, 9.5, 8.4)), PIXELS[4:8, 2:10])
    np.testing.assert_array_equal(cut_crop(PIXELS, (-7, -9, 5, 99)), PIXELS[:, :5])


def test_box_grows_about_its_centre_up_to_the_border() -> None:
    """One and a half times as wide and high, and cut where the picture ends."""
    np.testing.assert_array_equal(cut_crop(PIXELS, (8, 8, 16, 12), scale=1.5), PIXELS[7:13, 6:18])
    np.testing.assert_array_equal(cut_crop(PIXELS, (0, 0, 8, 4), scale=1.5), PIXELS[:5, :10])


@pytest.mark.parametrize(
    ("box", "pixel"),
    [
        ((4.1, 5.1, 4.3, 5.3), (5, 4)),
        ((29.9, 19.9, 30, 20), (19, 29)),
        ((0, 0, 0.1, 0.1), (0, 0)),
    ],
)
def test_box_within_a_pixel_is_that_pixel(
    box: tuple[float, float, float, float], pixel: tuple[int, int]
) -> None:
    """However small."""
    found = cut_crop(PIXELS, box)
    np.testing.assert_array_equal(found, PIXELS[pixel][None, None])


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (5, 9, 8, 9), (9, 5, 5, 8), (30, 0, 40, 5), (-9, 0, 0, 5), (0, 20, 5, 30)]
)
def test_nothing_of_a_box_without_area_or_outside(box: tuple[int, int, int, int]) -> None:
    """Nor of one whose ends are swapped."""
    assert cut_crop(PIXELS, box) is None


@given(x0=EDGES, y0=EDGES, x1=EDGES, y1=EDGES, scale=st.floats(0.25, 4))
def test_box_that_meets_the_picture_has_a_pixel(
    x0: float, y0: float, x1: float, y1: float, scale: float
) -> None:
    """And none else; the crop reaches no farther than a pixel beyond the grown box."""
    found = cut_crop(PIXELS, (x0, y0, x1, y1), scale=scale)
    width, height = scale * (x1 - x0), scale * (y1 - y0)
    left, top = (x0 + x1 - width) / 2, (y0 + y1 - height) / 2
    across, down = min(left + width, 30) - max(left, 0), min(top + height, 20) - max(top, 0)
    if found is None:
        assert width <= 0 or height <= 0 or across <= 1e-9 or down <= 1e-9
    else:
        assert min(across, down) > -1e-9
        assert 1 <= found.shape[0] <= down + 1
        assert 1 <= found.shape[1] <= across + 1

"""Tests of outlines: filled again they are the mask."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atas_deploy.media.formats.trace import fill_polygons, trace_polygons

MASKS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 1)
)


def parity(polygons: list, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Count, for each pixel, the vertical edges to its left in its row: odd is inside."""
    inside = np.zeros((height, width), bool)
    for ring in (ring for polygon in polygons for ring in polygon):
        for (x0, y0), (x1, y1) in itertools.pairwise(ring):
            assert x0 == x1 or y0 == y1
            if x0 == x1:
                inside[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside


def area(ring: list) -> float:
    """Return the signed area of a ring."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring)) / 2


@settings(deadline=None, max_examples=300)
@given(mask=MASKS)
def test_polygons_are_the_mask(mask: npt.NDArray[np.uint8]) -> None:
    """Two ways of filling the outlines give the mask back, whatever it is."""
    polygons = trace_polygons(mask)
    np.testing.assert_array_equal(parity(polygons, *mask.shape), mask)
    np.testing.assert_array_equal(fill_polygons(polygons, *mask.shape), mask)


@settings(deadline=None, max_examples=300)
@given(mask=MASKS)
def test_rings_are_simple_and_directed(mask: npt.NDArray[np.uint8]) -> None:
    """Rings are closed and pass no corner twice; exteriors turn one way, holes the other."""
    for exterior, *holes in trace_polygons(mask):
        assert area(exterior) > 0
        assert all(area(hole) < 0 for hole in holes)
        for ring in (exterior, *holes):
            assert ring[0] == ring[-1]
            corners = [tuple(point) for point in ring[1:]]
            assert len(set(corners)) == len(corners) >= 4


@settings(deadline=None, max_examples=200)
@given(mask=MASKS)
def test_each_polygon_is_a_connected_part(mask: npt.NDArray[np.uint8]) -> None:
    """Holes belong to the exterior around them: filled alone, polygons never overlap."""
    alone = [fill_polygons([polygon], *mask.shape) for polygon in trace_polygons(mask)]
    assert all(part.any() for part in alone)
    np.testing.assert_array_equal(np.sum([mask * 0, *alone], axis=0), mask)


def test_a_pixel_is_a_unit_square() -> None:
    """The pixel in row 1 and column 2 has its corners at x 2 to 3 and y 1 to 2."""
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 2] = 1
    [[ring]] = trace_polygons(mask)
    assert sorted(map(tuple, ring[1:])) == [(2, 1), (2, 2), (3, 1), (3, 2)]


def test_a_frame_has_a_hole() -> None:
    """A frame around a pixel is one polygon with one hole; an island in it is another."""
    mask = np.ones((5, 5), np.uint8)
    mask[1:4, 1:4] = 0
    mask[2, 2] = 1
    assert sorted(len(polygon) for polygon in trace_polygons(mask)) == [1, 2]


def test_nothing_has_no_outline() -> None:
    """An empty mask gives no polygon, and no polygon fills nothing."""
    assert trace_polygons(np.zeros((4, 4), np.uint8)) == []
    assert not fill_polygons([], 4, 4).any()


def disc() -> npt.NDArray[np.uint8]:
    """Return a disc of radius 40."""
    y, x = np.mgrid[:100, :100]
    return ((y - 50) ** 2 + (x - 50) ** 2 < 1_600).astype(np.uint8)


@pytest.mark.parametrize("tolerance", [1.0, 2.0])
def test_simple_outlines_stay_near(tolerance: float) -> None:
    """With a tolerance there are far fewer corners, and only pixels near the outline change."""
    mask = disc()
    [[exact]], [[simple]] = trace_polygons(mask), trace_polygons(mask, tolerance=tolerance)
    assert len(simple) < len(exact) / 4
    changed = np.argwhere(fill_polygons([[simple]], 100, 100) != mask)
    off = np.abs(np.hypot(*(changed - 50).T) - 40)
    assert len(changed)
    assert off.max() <= tolerance + 1


def test_small_parts_survive_any_tolerance() -> None:
    """A single pixel keeps its square where simplifying would leave no area."""
    mask = np.zeros((3, 3), np.uint8)
    mask[1, 1] = 1
    assert len(trace_polygons(mask, tolerance=10)[0][0]) == 5


def test_slanted_edges_fill_by_centres() -> None:
    """A triangle over the half of a square holds the pixels whose centres lie inside it."""
    filled = fill_polygons([[[[0, 0], [6.2, 0], [0, 6.2], [0, 0]]]], 6, 6)
    y, x = np.mgrid[:6, :6] + 0.5
    np.testing.assert_array_equal(filled, x + y < 6.2)


def test_polygons_may_leave_the_picture() -> None:
    """What lies outside the picture is cut off."""
    assert fill_polygons([[[[-9, -9], [99, -9], [99, 99], [-9, 99], [-9, -9]]]], 4, 5).all()

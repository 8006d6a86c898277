"""Tests of regions drawn with their names."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.core.palette import class_palette
from atas_deploy.core.region import NamedRegions, Region
from atas_deploy.media import boxes as drawing
from atas_deploy.media.boxes import draw_regions
from atas_deploy.media.tags import PlacedTag, Tag, place_tags

NAMES = ("dog", "cat", "tree")
PALETTE = class_palette(3)
GREY = np.full((120, 160, 3), 90, np.uint8)


def named(regions: list[Region], labels: list[int]) -> NamedRegions:
    """Give regions labels, and the score 0.5."""
    column = np.array(labels, np.intp).reshape(-1, 1)
    return NamedRegions(tuple(regions), NAMES, column, np.full(column.shape, 0.5, np.float32))


def box(*edges: float) -> Region:
    """A region without a mask."""
    return Region(box=(edges[0], edges[1], edges[2], edges[3]))


def disc(y: int, x: int, radius: int) -> npt.NDArray[np.bool_]:
    """A round mask (120, 160)."""
    rows, columns = np.mgrid[:120, :160]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def test_a_box_has_the_color_of_its_class() -> None:
    """The outermost pixels of the box, and no pixel outside of box and tag, change."""
    out = draw_regions(GREY, named([box(20, 30, 140, 110)], [2]), PALETTE)
    np.testing.assert_array_equal(out[109, 30:130], np.broadcast_to(PALETTE[2], (100, 3)))
    np.testing.assert_array_equal(out[40:100, 139], np.broadcast_to(PALETTE[2], (60, 3)))
    changed = np.argwhere((out != GREY).any(axis=2))
    assert changed.min(axis=0).tolist() == [30, 20]
    assert changed.max(axis=0).tolist() == [109, 139]
    assert (out[60:100, 40:120] == 90).all()


def test_boxes_at_the_border_of_the_picture() -> None:
    """Boxes that touch or reach beyond the border are drawn inside the picture."""
    out = draw_regions(
        GREY, named([box(0, 0, 160, 120), box(150.5, 100.2, 160, 120)], [1, 3]), PALETTE
    )
    assert out[60, 0].tolist() == out[119, 80].tolist() == PALETTE[1].tolist()
    assert out[110, 159].tolist() == PALETTE[3].tolist()


def test_small_boxes_lie_over_large_ones() -> None:
    """Whatever their order, the small box is drawn last."""
    regions = [box(40, 40, 60, 60), box(40, 20, 150, 110)]
    out = draw_regions(GREY, named(regions, [1, 2]), PALETTE)
    assert out[50, 40].tolist() == PALETTE[1].tolist()
    assert out[80, 40].tolist() == PALETTE[2].tolist()


def test_background_boxes_are_thin_and_nameless() -> None:
    """A box without a class is one grey line, whatever the size of the picture."""
    large = np.full((1200, 1600, 3), 90, np.uint8)
    out = draw_regions(large, named([box(200, 300, 900, 800)], [0]), PALETTE)
    assert len(np.unique(out[500, 200], axis=0)) <= 3
    row = (out[500] != large[500]).any(axis=1)
    assert row[200:203].sum() <= 2
    assert not (out[310:790, 210:890] != 90).any()


def test_masks_are_tinted_in_the_stated_share() -> None:
    """Inside a mask a pixel is picture and colour; outside, the picture stays."""
    region = Region.from_mask(disc(60, 80, 45))
    out = draw_regions(GREY, named([region], [3]), PALETTE, opacity=0.25)
    expected = 0.75 * 90 + 0.25 * PALETTE[3].astype(float)
    np.testing.assert_allclose(out[90, 80], expected, atol=1)
    assert (out[:10] == 90).all()
    assert (out[:, :30] == 90).all()


def test_background_masks_show_the_picture() -> None:
    """A mask that is background inside one that has a name is not tinted."""
    regions = [Region.from_mask(disc(30, 80, 10)), Region.from_mask(disc(60, 80, 50))]
    out = draw_regions(GREY, named(regions, [0, 1]), PALETTE)
    inner, outer = out[30, 80].tolist(), out[100, 80].tolist()
    assert inner == [90, 90, 90]
    assert outer != [90, 90, 90]


def test_the_tag_of_a_mask_lies_on_it() -> None:
    """The tag of a crooked mask is where it is widest, not at the corner of its box."""
    mask = np.zeros((120, 160), bool)
    mask[5:115, 5:15] = True
    mask[70:115, 5:155] = True
    region = Region.from_mask(mask)
    with_tag = draw_regions(GREY, named([region], [1]), PALETTE, opacity=0)
    changed = (with_tag != GREY).any(axis=2)
    letters = changed[76:110, 20:150]
    assert letters.sum() > 200
    assert not changed[20:60, 30:].any()


def test_the_picture_is_left_alone() -> None:
    """The picture given is not changed, also without regions."""
    image = GREY.copy()
    draw_regions(image, named([box(5, 5, 100, 100)], [1]), PALETTE)
    out = draw_regions(image, named([], []), PALETTE)
    np.testing.assert_array_equal(image, GREY)
    np.testing.assert_array_equal(out, GREY)
    assert out is not image


def test_a_legend_stands_in_for_tags() -> None:
    """Where not every region has room for a tag, a legend names the classes."""
    cells = [box(8 * x, 8 * y, 8 * x + 8, 8 * y + 8) for y in range(15) for x in range(20)]
    out = draw_regions(GREY, named(cells, [1 + i % 3 for i in range(300)]), PALETTE)
    dark = (out[104:116, 8:60].max(axis=2) < 60).mean()
    assert dark > 0.3
    few = draw_regions(GREY, named(cells[:1], [1]), PALETTE)
    assert (few[104:116, 8:60] == 90).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (16, 16), (2000, 30)])
def test_tiny_and_thin_pictures(size: tuple[int, int]) -> None:
    """Any size of picture can be drawn on."""
    image = np.full((*size, 3), 90, np.uint8)
    whole = box(0, 0, size[1], size[0])
    mask = Region.from_mask(np.ones(size, bool))
    out = draw_regions(image, named([whole, mask], [1, 2]), PALETTE)
    assert out.shape == image.shape


def test_lines_grow_thinner_with_the_number() -> None:
    """Hundreds of boxes are drawn with thinner lines and smaller letters than a few."""
    image = np.zeros((1000, 1400, 3), np.uint8)
    widths = [drawing._line_width(image, count) for count in (1, 25, 100, 2000)]
    fonts = [drawing._font(image, count) for count in (1, 60, 600, 5000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == widths[1] > widths[-1] >= 1
    assert fonts == sorted(fonts, reverse=True)
    assert fonts[-1] >= 10


def tag(edges: tuple[float, float, float, float], name: str = "dog") -> Tag:
    """A tag of a box."""
    return Tag(name=name, score=0.5, color=(0, 0, 0), box=edges)


def overlap(one: PlacedTag, other: PlacedTag) -> bool:
    """Whether two tags share a pixel."""
    a, b = one.place, other.place
    return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])


EDGE = st.floats(0, 400, allow_nan=False)
BOX = st.tuples(EDGE, EDGE, EDGE, EDGE).map(
    lambda e: (min(e[0], e[2]), min(e[1], e[3]), max(e[0], e[2]) + 1, max(e[1], e[3]) + 1)
)


@given(st.lists(BOX, max_size=60), st.sampled_from([(401, 401), (60, 90), (12, 401)]))
@settings(deadline=None, max_examples=60)
def test_tags_stay_inside_and_apart(
    edges: list[tuple[float, float, float, float]], size: tuple[int, int]
) -> None:
    """No tag leaves the picture or the free part of it, and no two share a pixel."""
    taken = PlacedTag("", (0, 0, 0), (0, size[0] // 2, size[1] // 3, size[0]))
    placed = place_tags(size, [tag(e) for e in edges], font=12, taken=taken.place)
    for i, one in enumerate(placed):
        x0, y0, x1, y1 = one.place
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]
        assert not any(overlap(one, other) for other in [taken, *placed[:i]])


def test_tags_do_not_hide_small_regions() -> None:
    """A tag gives way to a small box in its corner."""
    large, small = (10.0, 10.0, 380.0, 380.0), (12.0, 12.0, 30.0, 22.0)
    (first, _) = place_tags((400, 400), [tag(large), tag(small)], font=14)
    assert first.place[0] > 30 or first.place[1] > 22


def test_long_names_are_cut_short() -> None:
    """A name of a thousand letters takes no more than its share of the picture."""
    (placed,) = place_tags((300, 400), [tag((10, 10, 390, 290), "word " * 200)], font=12)
    assert placed.place[2] - placed.place[0] < 0.75 * 400
    assert "…" in placed.text


def test_a_crowd_keeps_names_inside() -> None:
    """In a grid of cells that are narrower than the name, it is cut short to stay in its cell."""
    cells = [
        tag((60.0 * x, 40.0 * y, 60.0 * x + 60, 40.0 * y + 40), "long-necked statue")
        for y in range(6)
        for x in range(6)
    ]
    placed = place_tags((240, 360), cells, font=12)
    assert placed
    assert all(text.place[0] // 60 == (text.place[2] - 1) // 60 for text in placed)
    assert all(text.text.endswith("…") for text in placed)


def test_each_cell_of_a_fine_grid_has_its_tag() -> None:
    """If the name fits into the cell, however many there are."""
    cells = [
        tag((32.0 * x, 20.0 * y, 32.0 * x + 32, 20.0 * y + 20))
        for y in range(20)
        for x in range(20)
    ]
    placed = place_tags((400, 640), cells, font=12)
    inside = {(text.place[0] // 32, text.place[1] // 20) for text in placed}
    assert len(inside) == len(placed) == 400


def test_tags_do_not_hide_regions_without_a_tag() -> None:
    """A cell that is background is left to be seen: the tag of its neighbour has no place."""
    cells = [(20.0 * x, 10.0 * y, 20.0 * x + 20, 10.0 * y + 10) for y in range(6) for x in range(6)]
    alone = place_tags((60, 120), [tag(cells[14])], font=12)
    among = place_tags((60, 120), [tag(cells[14])], font=12, nameless=[*cells[:14], *cells[15:]])
    assert (len(alone), len(among)) == (1, 0)

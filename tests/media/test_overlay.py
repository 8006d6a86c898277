"""Tests of tints, outlines and legends."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.core.palette import class_palette
from atas_deploy.media.legend import Entry, draw_legend
from atas_deploy.media.overlay import blend, side_by_side

GREY = np.full((120, 160, 3), 90, np.uint8)


def entries(*names: str) -> list[Entry]:
    """Give names the colours of the palette."""
    colors = class_palette(len(names))[1:].tolist()
    return [
        (name, (red, green, blue)) for name, (red, green, blue) in zip(names, colors, strict=True)
    ]


def covered(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return the (row, column) of every pixel that is not grey any more."""
    return np.argwhere(image[..., 0] != 90)


def halves(left: int, right: int, dtype: type = np.uint8) -> npt.NDArray[np.integer]:
    """Make a label map of two halves (120, 160)."""
    labels = np.full((120, 160), left, dtype)
    labels[:, 80:] = right
    return labels


def test_tint_is_the_stated_mixture() -> None:
    """Away from outlines a pixel is image and colour in the stated shares."""
    palette = class_palette(2)
    out = blend(GREY, halves(0, 2), palette, opacity=0.25)
    np.testing.assert_allclose(out[60, 120], 0.75 * 90 + 0.25 * palette[2].astype(float), atol=1)


@pytest.mark.parametrize(("nothing", "classes"), [(0, 3), (255, 3), (0, 300), (65_535, 300)])
def test_background_and_void_keep_the_image(nothing: int, classes: int) -> None:
    """Background and void are not tinted, and nothing outlines them."""
    labels = halves(nothing, 0, np.uint16)
    np.testing.assert_array_equal(blend(GREY, labels, class_palette(classes)), GREY)


def test_255_is_a_class_where_there_are_so_many() -> None:
    """With 300 classes, label 255 is tinted in its colour."""
    palette = class_palette(300)
    out = blend(GREY, halves(255, 300, np.uint16), palette, opacity=1)
    assert out[60, 20].tolist() == palette[255].tolist()
    assert out[60, 140].tolist() == palette[300].tolist()


def test_depth_of_the_label_map_does_not_show() -> None:
    """Label maps of 8 and of 16 bits are painted in other ways, but look the same."""
    labels = np.random.default_rng(0).integers(0, 255, (120, 160))
    narrow = blend(GREY, labels.astype(np.uint8), class_palette(254))
    wide = blend(GREY, labels.astype(np.uint16), class_palette(255))
    np.testing.assert_array_equal(narrow, wide)


def test_outlines_are_thin_and_light() -> None:
    """The border of two classes is lighter than both, and only a few pixels wide."""
    palette = np.zeros((3, 3), np.uint8)
    out = blend(GREY, halves(1, 2), palette, opacity=1)
    assert out[60, 78:82].max() > 80
    assert not out[:, :76].any()
    assert not out[:, 84:].any()


def test_arguments_are_left_alone() -> None:
    """Neither the image nor the labels are changed."""
    image, labels = GREY.copy(), halves(1, 255)
    draw_legend(blend(image, labels, class_palette(1)), entries("dog"))
    np.testing.assert_array_equal(image, GREY)
    np.testing.assert_array_equal(labels, halves(1, 255))


def test_legend_shows_every_colour() -> None:
    """Each class has a swatch of its exact colour, in the order given."""
    image = np.full((720, 1280, 3), 90, np.uint8)
    shown = entries("sky", "building", "tree")
    legend = draw_legend(image, shown)
    places = [np.argwhere((legend == color).all(axis=2)) for _, color in shown]
    assert all(len(place) > 50 for place in places)
    columns = [place[:, 1].mean() for place in places]
    assert columns == sorted(columns)


@pytest.mark.parametrize("size", [(120, 120), (120, 4000), (4000, 120), (480, 640), (4320, 7680)])
@pytest.mark.parametrize("count", [1, 7, 1_000])
def test_legend_stays_in_its_corner(size: tuple[int, int], count: int) -> None:
    """At every size the legend is there, inside the picture, in the lower part, with contrast."""
    height, width = size
    image = np.full((*size, 3), 90, np.uint8)
    legend = draw_legend(image, entries(*(f"class {number}" for number in range(count))))
    places = covered(legend)
    assert len(places) > 100
    assert places[:, 0].min() >= height / 2
    assert places[:, 0].max() < height - 1
    assert places[:, 1].min() >= 1
    assert places[:, 1].max() < width - 1
    assert legend.max() >= 240


def test_letters_grow_with_the_picture() -> None:
    """The panel of one class keeps its share of a picture when that is enlarged."""
    shares = []
    for height, width in [(1080, 1920), (4320, 7680)]:
        legend = draw_legend(np.full((height, width, 3), 90, np.uint8), entries("dog"))
        shares.append(len(covered(legend)) / (height * width))
    assert shares[0] == pytest.approx(shares[1], rel=0.1)


def test_many_classes_end_in_a_count() -> None:
    """One class more than fits changes the picture, since it is counted."""
    names = [f"class {number}" for number in range(500)]
    few, more = (draw_legend(GREY, entries(*names)[:count]) for count in (300, 500))
    assert (few != more).any()


def test_the_count_is_of_all_classes() -> None:
    """Of 10,000 classes the same ones are shown as of 9,999, and the count differs."""
    names = [f"class {number}" for number in range(10_000)]
    image = np.full((720, 1280, 3), 90, np.uint8)
    all_but_one, all_of_them = (draw_legend(image, entries(*names)[:n]) for n in (9_999, 10_000))
    different = np.argwhere((all_but_one != all_of_them).any(axis=2))
    assert 0 < len(different) < 2_000
    assert np.ptp(different[:, 0]) < 40


def test_long_names_are_shortened() -> None:
    """A name of 5,000 characters takes no more room than a rather long one."""
    image = np.full((720, 1280, 3), 90, np.uint8)
    legend = draw_legend(image, entries("x" * 5_000, "dog"))
    assert covered(legend)[:, 1].max() < 640
    np.testing.assert_array_equal(legend, draw_legend(image, entries("x" * 4_000, "dog")))


@settings(deadline=None, max_examples=40)
@given(name=st.text(max_size=60), height=st.integers(1, 300), width=st.integers(1, 300))
def test_any_name_on_any_size(name: str, height: int, width: int) -> None:
    """Whatever the name and the size, a picture of that size comes back."""
    image = np.full((height, width, 3), 90, np.uint8)
    assert draw_legend(image, entries(name, "dog")).shape == image.shape


@pytest.mark.parametrize("pair", [("犬", "猫"), ("д", "ж"), ("λ", "π"), ("강", "산")])
def test_foreign_scripts_are_drawn(pair: tuple[str, str]) -> None:
    """Letters of other scripts are told apart: they are not all question marks."""
    one, other, unknown = (draw_legend(GREY, entries(name)) for name in (*pair, "?"))
    assert (one != other).any()
    assert (one != unknown).any()


def test_nothing_to_name() -> None:
    """Without entries the picture comes back as it was, in a new array."""
    out = draw_legend(GREY, [])
    np.testing.assert_array_equal(out, GREY)
    assert out is not GREY


@pytest.mark.parametrize("size", [(40, 60), (720, 1280), (480, 960), (2160, 3840)])
def test_picture_stands_left_of_its_overlay(size: tuple[int, int]) -> None:
    """Up to 2 to 1 the halves stand side by side, whole, with a thin white line between."""
    height, width = size
    left, right = np.full((*size, 3), 10, np.uint8), np.full((*size, 3), 20, np.uint8)
    both = side_by_side(left, right)
    gap = both.shape[1] - 2 * width
    assert both.shape[0] == height
    assert 0 < gap <= max(2, width / 100)
    assert gap % 2 == 0
    np.testing.assert_array_equal(both[:, :width], left)
    np.testing.assert_array_equal(both[:, width + gap :], right)
    assert (both[:, width : width + gap] == 255).all()


def test_wide_pictures_are_stacked() -> None:
    """A picture wider than 2 to 1 stands above its overlay."""
    above, below = np.full((40, 81, 3), 10, np.uint8), np.full((40, 81, 3), 20, np.uint8)
    both = side_by_side(above, below)
    assert both.shape == (82, 81, 3)
    np.testing.assert_array_equal(both[:40], above)
    np.testing.assert_array_equal(both[42:], below)

"""Panels of a picture: which there are, how large, with which scale."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from atas_deploy.core.palette import class_palette
from atas_deploy.runtime.visual.kinds import KINDS
from atas_deploy.runtime.visual.maps import WordMaps
from atas_deploy.runtime.visual.panels import (
    MOST_WORDS,
    draw_grid,
    likely_words,
    show_clusters,
    view_panels,
    word_scale,
)
from atas_deploy.runtime.visual.viewer import View, Visual, Visualizer


def with_words(visual: Visual, probability: np.ndarray) -> Visual:
    """The picture with other probabilities of words, (h, w, C)."""
    view = visual.views[0]
    words = WordMaps(probability, probability / 2)
    fields = {name: getattr(view, name) for name in View.__slots__} | {"words": words}
    names = tuple(f"word {i}" for i in range(probability.shape[-1]))
    return Visual(visual.image, (View(**fields),), names)


def test_each_kind_has_its_panels(visual: Visual) -> None:
    """All kinds, and one for each word, in the size of the picture."""
    panels = dict(view_panels(visual, visual.views[0], kinds=KINDS, opacity=0.5))
    words = ["word-sky", "word-tree", "word-<b>house</b>"]
    assert list(panels) == ["kmeans", "pca", "similarity", *words]
    assert {panel.image.shape for panel in panels.values()} == {(72, 112, 3)}
    assert panels["kmeans"].scale is None
    low, high = panels["similarity"].scale or (0, 0)
    assert (low, high) == pytest.approx((visual.views[0].similarity.min(), 1))


def test_kinds_choose_panels(visual: Visual) -> None:
    """Only what was asked for, in the order of the kinds."""
    panels = view_panels(visual, visual.views[0], kinds=("similarity", "pca"), opacity=0.5)
    assert [name for name, _ in panels] == ["pca", "similarity"]


def test_clusters_are_painted_in_their_colours(visual: Visual) -> None:
    """At full opacity the middle of most cells has its cluster's colour."""
    view = visual.views[0]
    painted = show_clusters(visual.image, view, opacity=1)
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in zip((6, 9), (72, 112)))  # noqa: B905
    middle = painted[np.ix_(rows.astype(int), columns.astype(int))]
    wanted = class_palette(8)[1:][view.clusters.labels]
    assert (middle == wanted).all(axis=-1).mean() > 0.7  # the others lie under outlines


def test_probabilities_of_all_words_share_a_scale_from_zero(visual: Visual) -> None:
    """So that words can be compared; cosines begin with the lowest."""
    probability = np.random.default_rng(0).random((6, 9, 3)).astype(np.float32)
    given = with_words(visual, probability)
    assert word_scale(given, scores="probability") == (0, pytest.approx(probability.max()))
    wanted = probability.min() / 2, probability.max() / 2
    assert word_scale(given, scores="cosine") == pytest.approx(wanted)


def test_the_grid_has_the_most_probable_words(visual: Visual) -> None:
    """Of 20 words the 12 with the highest peak, in their order."""
    probability = np.zeros((6, 9, 20), np.float32)
    probability[2, 3] = np.arange(20) / 20
    assert likely_words(with_words(visual, probability)) == list(range(20 - MOST_WORDS, 20))


def test_a_panel_for_each_word(many_words: Callable[[int], Visual]) -> None:
    """All of 20, unless some are named, in their order."""
    visual = many_words(20)
    for words in (None, [3, 17]):
        panels = view_panels(visual, visual.views[0], kinds=("words",), opacity=0.5, words=words)
        numbers = range(20) if words is None else words
        assert [name for name, _ in panels] == [f"word-word {number}" for number in numbers]


@pytest.mark.parametrize("opacity", [1.0, 0.25])
def test_clusters_have_exact_colours_inside(visual: Visual, opacity: float) -> None:
    """Away from outlines each pixel is the mix of the picture and its cluster's colour."""
    view, (height, width) = visual.views[0], visual.image.shape[:2]
    scores = cv2.resize(view.clusters.scores, (width, height), interpolation=cv2.INTER_LINEAR)
    labels = scores.argmax(axis=-1).astype(np.uint8)
    kernel = np.ones((9, 9), np.uint8)
    inside = cv2.erode(labels, kernel) == cv2.dilate(labels, kernel)
    assert len(np.unique(labels[inside])) > 3
    paint = class_palette(8)[1:][labels].astype(float)
    wanted = (1 - opacity) * visual.image + opacity * paint
    got = show_clusters(visual.image, view, opacity=opacity)
    np.testing.assert_allclose(got[inside], wanted[inside], atol=0 if opacity == 1 else 1)


def test_rows_are_in_the_order_of_the_models(two_views: Visual) -> None:
    """The first view's panels stand in the first row, the second's in the second."""
    coarse, fine = two_views.views
    kinds = ("pca",)
    both, first, second = (
        draw_grid(Visual(two_views.image, views, ()), kinds=kinds, opacity=1)
        for views in ((coarse, fine), (coarse, coarse), (fine, fine))
    )
    half = both.shape[0] // 2
    np.testing.assert_array_equal(both[:half], first[:half])
    np.testing.assert_array_equal(both[half:], second[half:])
    assert (first != second).any()


RATIOS = [(n, 1) for n in (1, 2, 5, 12, 15, 40, 100)] + [(1, n) for n in (2, 12, 40, 100)]


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("ratio", RATIOS)
def test_pictures_of_any_shape_have_a_grid(ratio: tuple[int, int], views: int) -> None:
    """From a square to strips of 1 to 100, with colour bars, and not larger than a large screen."""
    size = ratio[0] * 800 // max(ratio), ratio[1] * 800 // max(ratio)
    image = np.full((*size, 3), 77, np.uint8)
    visual = Visualizer(short_side=32, cache=False, classes="sky,tree")(image)
    given = Visual(image, views * visual.views, visual.class_names)
    grid = draw_grid(given, kinds=KINDS, opacity=0.5)
    assert max(grid.shape) <= 4800
    picture = (grid == 77).all(axis=-1)
    rows, columns = picture.any(axis=1), picture.any(axis=0)
    shown = rows.sum() / columns.sum()
    assert shown == pytest.approx(views * size[0] / size[1], rel=0.2)


def test_the_grid_says_that_it_has_a_part_of_the_words(
    many_words: Callable[[int], Visual],
) -> None:
    """In the heading, which is as that of twelve words but for it."""
    some, part = (draw_grid(many_words(n), kinds=("words",), opacity=0.5) for n in (12, 20))
    assert some.shape == part.shape
    ink = [int((grid[:36] < 100).sum()) for grid in (some, part)]
    assert ink[1] > 1.3 * ink[0]


def test_models_stand_below_each_other(two_views: Visual) -> None:
    """The grid of four views is as wide as that of two, and about twice as high."""
    four = Visual(two_views.image, 2 * two_views.views, ())
    kinds = ("pca", "similarity")
    two, double = (draw_grid(some, kinds=kinds, opacity=0.5) for some in (two_views, four))
    assert two.shape[1] == double.shape[1]
    assert 1.9 < double.shape[0] / two.shape[0] < 2.1

"""Panels of a picture: which there are, how large, with which scale."""

import numpy as np
import pytest

from atas_deploy.core.palette import class_palette
from atas_deploy.runtime.visual.kinds import KINDS
from atas_deploy.runtime.visual.maps import WordMaps
from atas_deploy.runtime.visual.panels import (
    MOST_WORDS,
    draw_grid,
    show_clusters,
    show_words,
    view_panels,
    word_scale,
)
from atas_deploy.runtime.visual.viewer import View, Visual


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
    assert show_words(with_words(visual, probability)) == list(range(20 - MOST_WORDS, 20))


def test_models_stand_below_each_other(two_views: Visual) -> None:
    """The grid of four views is as wide as that of two, and about twice as high."""
    four = Visual(two_views.image, 2 * two_views.views, ())
    kinds = ("pca", "similarity")
    two, double = (draw_grid(some, kinds=kinds, opacity=0.5) for some in (two_views, four))
    assert two.shape[1] == double.shape[1]
    assert 1.9 < double.shape[0] / two.shape[0] < 2.1

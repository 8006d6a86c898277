"""`Visualizer` on the embedded model."""

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.visual.maps import unit
from atas_deploy.runtime.visual.viewer import Visual, Visualizer


def test_features_are_those_of_the_encoder(visual: Visual, photo: np.ndarray) -> None:
    """Unit vectors of the picture as `Encoders.dense` has them."""
    dense = Encoders().dense(short_side=96)(photo).dense
    np.testing.assert_allclose(visual.views[0].dense, unit(dense), atol=1e-6)


def test_the_patch_is_the_one_that_holds_the_point(visual: Visual) -> None:
    """The point is x 50 of 112 and y 36 of 72, on a grid of 6 x 9."""
    view = visual.views[0]
    assert view.grid == (6, 9)
    assert view.patch == (3, 4)
    assert view.similarity[view.patch] == pytest.approx(1, abs=1e-6)


def test_the_middle_is_chosen_without_a_point(two_views: Visual) -> None:
    """On both grids."""
    assert [view.patch for view in two_views.views] == [(3, 4), (5, 8)]


@pytest.mark.parametrize("point", [(112, 10), (10, 72), (-1, 0)])
def test_a_point_outside_is_refused(photo: np.ndarray, point: tuple[float, float]) -> None:
    """One sentence with the size of the picture."""
    with pytest.raises(InputError, match=r"outside of the picture, which is 112 x 72 pixels"):
        Visualizer(short_side=96)(photo, point=point)


def test_one_model_twice_is_equal_and_named_apart(photo: np.ndarray) -> None:
    """The second view has the colours of the first."""
    visualizer = Visualizer(["atas-tiny", "atas-tiny"], short_side=96)
    first, second = visualizer(photo).views
    assert visualizer.names == ("atas-tiny, sclip", "atas-tiny, sclip-2")
    np.testing.assert_array_equal(first.clusters.labels, second.clusters.labels)
    np.testing.assert_allclose(first.colors, second.colors, atol=1e-5)


def test_without_classes_there_are_no_words(two_views: Visual) -> None:
    """Nothing is encoded for them."""
    assert two_views.class_names == ()
    assert all(view.words is None for view in two_views.views)


def test_words_follow_the_background_rule(photo: np.ndarray, visual: Visual) -> None:
    """Classes are named by their first word; with "none" their probabilities sum to 1."""
    assert visual.class_names == ("sky", "tree", "<b>house</b>")
    views = Visualizer(classes="sky,tree", background="none", short_side=96, cache=False)(photo)
    words = views.views[0].words
    assert words is not None
    np.testing.assert_allclose(words.probability.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("clusters", [0, 65])
def test_a_number_of_clusters_is_refused(clusters: int) -> None:
    """Before a model is opened."""
    with pytest.raises(ConfigError, match="expected 1 to 64"):
        Visualizer(["no such model"], clusters=clusters)

"""`Visualizer` on the embedded model."""

import numpy as np
import pytest

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.vectors import unit
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.visual.match import match_clusters, match_components
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


def test_words_are_those_written_out(photo: np.ndarray) -> None:
    """Probabilities by the given logit scale, background and templates; cosines without them."""
    settings = {"templates": ["a photo of {}"], "background": "road,wall"}
    visual = Visualizer(classes="sky,tree", logit_scale=7, short_side=96, cache=False, **settings)
    view = visual(photo).views[0]
    encoders = Encoders(cache=False)
    texts = encoders.texts(["a photo of {}"])(["road", "wall", "sky", "tree"])
    cosine = view.dense.astype(np.float64) @ texts.astype(np.float64).T
    shares = np.exp(7 * cosine) / np.exp(7 * cosine).sum(axis=-1, keepdims=True)
    assert view.words is not None
    np.testing.assert_allclose(view.words.probability, shares[..., 2:], atol=1e-5)
    np.testing.assert_allclose(view.words.cosine, cosine[..., 2:], atol=1e-5)


def test_the_logit_scale_is_the_models_own_by_default(photo: np.ndarray) -> None:
    """That of its manifest gives the same."""
    own = Encoders().bundle.manifest.logit_scale
    (first, second) = (
        Visualizer(classes="sky,tree", logit_scale=scale, short_side=64, cache=False)(photo)
        for scale in (None, own)
    )
    np.testing.assert_array_equal(*(one.views[0].words.probability for one in (first, second)))  # type: ignore[union-attr]


def test_later_models_have_the_numbers_and_components_of_the_first(photo: np.ndarray) -> None:
    """The second view is its own clusters and components, matched with the first view's."""
    readouts = ["vanilla", "naclip"]
    both = Visualizer(readouts=readouts, short_side=160, cache=False)(photo)
    alone = [
        Visualizer(readouts=readout, short_side=160, cache=False)(photo) for readout in readouts
    ]
    assert [view.name for view in both.views] == ["atas-tiny, vanilla", "atas-tiny, naclip"]
    first, own = (visual.views[0] for visual in alone)
    wanted = match_clusters(own.clusters, first.clusters)
    np.testing.assert_array_equal(both.views[0].clusters.labels, first.clusters.labels)
    np.testing.assert_array_equal(both.views[1].clusters.labels, wanted.labels)
    np.testing.assert_array_equal(both.views[1].clusters.scores, wanted.scores)
    assert (wanted.labels != own.clusters.labels).any()  # or matching would not show
    components = match_components(own.components, first.components)
    np.testing.assert_allclose(both.views[1].components, components, atol=1e-6)
    assert not np.allclose(components, own.components, atol=1e-3)


def test_one_model_and_one_readout_need_no_list(photo: np.ndarray) -> None:
    """A name alone is that of a model, not a list of letters."""
    visualizer = Visualizer("atas-tiny", readouts="maskclip", short_side=64, cache=False)
    assert visualizer.names == ("atas-tiny, maskclip",)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        *(({"clusters": count}, "expected 1 to 64") for count in (0, 65, 2.5, True, "8")),
        *(({"logit_scale": scale}, "logit scale") for scale in (float("nan"), -1, 0, True)),
        *(({"short_side": side}, "short side") for side in (0, -5, 96.5, True)),
        ({"readouts": ["foo"]}, "Read-out 'foo' is unknown"),
        ({"models": ()}, "No model was named"),
        ({"classes": []}, "class"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    setting: dict[str, object], sentence: str
) -> None:
    """In one sentence, before a model is opened."""
    with pytest.raises(ConfigError, match=sentence):
        Visualizer(**{"models": ["no such model"], **setting})  # type: ignore[arg-type]


@pytest.mark.parametrize("point", [(float("nan"), 1), (1,), ("a", 2), "ab", 3])
def test_a_point_that_is_none_is_refused(photo: np.ndarray, point: object) -> None:
    """One sentence."""
    visualizer = Visualizer(short_side=64, cache=False)
    with pytest.raises(ConfigError, match="expected x and y in pixels"):
        visualizer(photo, point=point)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "column"), [(0, 0), (7.9, 0), (8, 1), (16, 2), (104, 13), (111.9999, 13)]
)
def test_the_first_pixel_of_a_patch_lies_in_it(photo: np.ndarray, x: float, column: int) -> None:
    """A grid of 14 columns over 112 pixels: eight pixels each."""
    visual = Visualizer(short_side=144, cache=False)(photo, point=(x, 0))
    (view,) = visual.views
    assert view.grid[1] == 14
    assert view.patch == (0, column)
    written = float(f"{visual.place[1]:.6f}")  # by the page, in its address
    assert written == visual.place[1] == pytest.approx(x / 112, abs=2e-6)
    assert int(written * 14) == column

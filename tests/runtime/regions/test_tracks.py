"""Means along tracks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.region import Region
from atas_deploy.runtime.regions import TrackNames
from atas_deploy.runtime.regions.ranking import class_probability


def tracked(*tracks: int | None) -> list[Region]:
    """A box for each track."""
    return [Region(box=(0, 0, 4, 4), track=track) for track in tracks]


def vectors(*rows: list[float]) -> np.ndarray:
    """(K, D) float32."""
    return np.array(rows, np.float32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), patience=st.integers(1, 4))
def test_mean_since_the_track_began(seed: int, patience: int) -> None:
    """Written out: all embeddings since the last gap that is longer than the patience."""
    rng = np.random.default_rng(seed)
    names = TrackNames(patience=patience)
    past: dict[int, list[tuple[int, np.ndarray]]] = {}
    for frame in range(15):
        tracks = [track for track in range(3) if rng.random() < 0.4]
        embeddings = rng.normal(size=(len(tracks), 4)).astype(np.float32)
        found = names(tracked(*tracks), embeddings)
        for track, embedding, mean in zip(tracks, embeddings, found, strict=True):
            seen = past.setdefault(track, [])
            if seen and frame - seen[-1][0] > patience:
                seen.clear()
            seen.append((frame, embedding.astype(np.float64)))
            expected = np.mean([vector for _, vector in seen], axis=0)
            np.testing.assert_allclose(mean, expected, atol=1e-6)


def test_it_is_the_mean_of_the_log_probabilities() -> None:
    """Made to sum to 1 again: the geometric mean of what each frame alone would say."""
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(4, 6)).astype(np.float32)
    embeddings = rng.normal(size=(5, 1, 4)).astype(np.float32)
    names = TrackNames()
    for embedding in embeddings:
        mean = names(tracked(1), embedding)
    found = class_probability(mean @ queries, np.arange(1, 7))[0, 1:]
    logits = embeddings[:, 0].astype(np.float64) @ queries
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.exp(np.log(probabilities).mean(axis=0))
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)


def test_regions_without_a_track_stay_as_they_are() -> None:
    """Between others, and again in the next frame."""
    names = TrackNames()
    names(tracked(None, 3), vectors([1, 0], [0, 1]))
    found = names(tracked(3, None), vectors([1, 0], [0, 1]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0, 1]])


def test_zeros_do_not_count() -> None:
    """A region that could not be seen gets what its track knows, or zeros if it knows nothing."""
    names = TrackNames()
    assert not names(tracked(5), vectors([0, 0])).any()
    names(tracked(5), vectors([1, 0]))
    np.testing.assert_allclose(names(tracked(5), vectors([0, 0])), [[1, 0]])
    np.testing.assert_allclose(names(tracked(5), vectors([0, 1])), [[0.5, 0.5]])


def test_memory_is_bounded() -> None:
    """The latest tracks stay, and of those not seen none after a while."""
    names = TrackNames(patience=50, most=7)
    for frame in range(300):
        names(tracked(frame), vectors([1.0, frame]))
        assert len(names) <= 7
    found = names(tracked(298, 3), vectors([0, 0], [0, 0]))
    np.testing.assert_allclose(found, [[1, 298], [0, 0]])
    for _ in range(50):
        names([], np.zeros((0, 2), np.float32))
    assert len(names) == 0


def test_input_is_left_alone() -> None:
    """The embeddings are the caller's."""
    names, embeddings = TrackNames(), vectors([1, 0])
    names(tracked(1), vectors([0, 1]))
    names(tracked(1), embeddings)
    np.testing.assert_array_equal(embeddings, [[1, 0]])


@pytest.mark.parametrize("setting", [{"patience": 0}, {"most": 0}, {"patience": 1.5}])
def test_settings_that_cannot_be_used_are_refused(setting: dict[str, float]) -> None:
    """Whole numbers above 0."""
    with pytest.raises(ConfigError, match="expected a whole number of"):
        TrackNames(**setting)

"""Prompt denoising against its formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.core.masks import background_only, competing_queries, denoise, label_map, widen


def softmax(z: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def case(seed: int, shape: tuple[int, ...], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Seeded features and words."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(*shape, 8)).astype(np.float32)
    return dense, rng.normal(size=(8, words)).astype(np.float32)


@given(
    seed=st.integers(0, 1000),
    shape=st.sampled_from([(1, 1), (5, 7), (2, 3, 4, 4)]),
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    least=st.floats(0, 1),
)
def test_a_class_needs_one_cell(
    seed: int, shape: tuple[int, ...], classes: list[int], least: float
) -> None:
    """Written out: the best probability of any word of a class in any cell of any window."""
    query_class = np.sort(classes)
    dense, queries = case(seed, shape, len(classes))
    best = softmax(dense.astype(np.float64) @ queries).reshape(-1, len(classes)).max(0)
    of_class = {c: max(best[query_class == c]) for c in set(classes)}
    kept = competing_queries(dense, queries, query_class, least=least)
    for query, label in enumerate(query_class):
        if label == 0 or abs(of_class[label] - least) > 1e-5:
            assert kept[query] == (label == 0 or of_class[label] >= least)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells may be looked at one by one."""
    dense, queries = case(0, (5, 7), 12)
    whole = competing_queries(dense, queries, np.arange(12), least=0.5)
    assert 1 < whole.sum() < 12
    monkeypatch.setattr(denoise, "_CHUNK", 1)
    np.testing.assert_array_equal(
        competing_queries(dense, queries, np.arange(12), least=0.5), whole
    )


def test_a_map_of_some_classes_becomes_one_of_all() -> None:
    """As many scores as classes, 16 bits where all of them need it, the same probabilities."""
    dense, queries = case(0, (4, 4), 300)
    query_class, kept = np.arange(300), np.arange(300) < 3
    found = label_map(dense, queries[:, kept], query_class[kept], size=(9, 9), probability=True)
    wide = widen(found, query_class)
    assert (wide.labels.dtype, wide.scores.shape) == (np.uint16, (299,))
    np.testing.assert_array_equal(wide.labels, found.labels)
    np.testing.assert_array_equal(wide.scores[:2], found.scores)
    assert wide.scores[2:].max() == 0
    assert wide.probability is found.probability


def test_nothing_left_is_background() -> None:
    """Label 0 everywhere, with no probability and no scores."""
    found = background_only((3, 5), np.array([1, 1, 2]))
    assert found.labels.shape == (3, 5)
    assert found.labels.max() == found.scores.max() == 0
    assert found.scores.shape == (2,)
    assert found.probability.shape == (3, 5)
    assert found.probability.max() == 0

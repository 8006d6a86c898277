"""From logits to classes, against the definition written out in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atas_deploy.runtime.regions.ranking import class_probability, rank_classes

QUERY_CLASS = np.array([0, 0, 1, 2, 2, 2, 3])


def random_logits(seed: int, count: int = 20) -> np.ndarray:
    """(count, 7) float32, of the size that a logit scale of 100 gives."""
    return (10 * np.random.default_rng(seed).normal(size=(count, 7))).astype(np.float32)


@given(seed=st.integers(0, 10**6))
def test_probability_is_the_best_querys(seed: int) -> None:
    """Of the softmax over all queries, those of the background included."""
    logits = random_logits(seed)
    probability = class_probability(logits, QUERY_CLASS)
    for row, found in zip(logits.astype(np.float64), probability, strict=True):
        softmax = [np.exp(x) / np.exp(row).sum() for x in row]
        best = [
            max(p for p, c in zip(softmax, QUERY_CLASS, strict=True) if c == label)
            for label in range(4)
        ]
        np.testing.assert_allclose(found, best, rtol=1e-5, atol=1e-7)


def test_without_background_column_0_is_0() -> None:
    """And the others sum to 1 if each class has one word."""
    scores = class_probability(random_logits(0)[:, :3], np.array([1, 2, 3]))
    assert (scores[:, 0] == 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    """The largest is taken off first."""
    scores = class_probability(np.array([[1e4, 0, -1e4]], np.float32), np.array([1, 2, 3]))
    np.testing.assert_array_equal(scores, [[0, 1, 0, 0]])


@given(seed=st.integers(0, 10**6), top=st.integers(1, 5), threshold=st.floats(0, 1))
def test_rank_follows_the_rule(seed: int, top: int, threshold: float) -> None:
    """Background first if it wins or all is too improbable, else not at all; then by score."""
    scores = class_probability(random_logits(seed), QUERY_CLASS)
    labels, found = rank_classes(scores, top=top, threshold=threshold)
    for row, chosen, kept in zip(scores.tolist(), labels.tolist(), found.tolist(), strict=True):
        expected = sorted([1, 2, 3], key=lambda label: -row[label])
        if max(row) < threshold or row[0] >= max(row[1:]):
            expected.insert(0, 0)
        assert chosen == expected[: min(top, 3)]
        assert kept == [row[label] for label in chosen]


def test_one_class_against_the_background() -> None:
    """It is either."""
    scores = class_probability(np.array([[0, 1], [1, 0]], np.float32), np.array([0, 1]))
    labels, found = rank_classes(scores, top=5)
    assert labels.tolist() == [[1], [0]]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_ties_go_to_the_lowest_class() -> None:
    """Also to the background, as everywhere in this project."""
    tied = np.zeros((1, 4), np.float32)
    assert rank_classes(class_probability(tied, np.array([1, 2, 3, 4])), top=3)[0].tolist() == [
        [1, 2, 3]
    ]
    assert rank_classes(class_probability(tied, np.array([0, 1, 2, 3])), top=3)[0].tolist() == [
        [0, 1, 2]
    ]


def test_improbable_region_without_background_words_is_background_of_score_0() -> None:
    """No word stands for it."""
    scores = class_probability(np.zeros((1, 4), np.float32), np.array([1, 2, 3, 4]))
    labels, found = rank_classes(scores, top=2, threshold=0.5)
    assert labels.tolist() == [[0, 1]]
    assert found.tolist() == [[0, 0.25]]


@pytest.mark.parametrize("count", [0, 1])
def test_no_regions_have_no_classes(count: int) -> None:
    """Empty lists are lists."""
    labels, found = rank_classes(class_probability(random_logits(0, count), QUERY_CLASS), top=2)
    assert labels.shape == found.shape == (count, 2)

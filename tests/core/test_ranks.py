"""Ranks by hand, and mean class accuracy from them against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from atas_deploy.core.metrics import known_mean, rank_among, ratio


def test_a_rank_counts_what_comes_before() -> None:
    """Higher scores and equal ones do, lower ones and those that do not compete do not."""
    others = np.array([[0.9, 0.5, 0.1], [0.5, 0.5, -np.inf], [-np.inf, 0.1, 0.2]])
    np.testing.assert_array_equal(rank_among(np.array([0.5, 0.5, 0.5]), others), [2, 2, 0])


def test_cosines_of_equal_vectors_are_equal() -> None:
    """Whatever float32 makes of their last digits; one a little farther off is not."""
    others = np.array([[0.5 - 5e-7, 0.5 - 5e-6]])
    np.testing.assert_array_equal(rank_among(np.array([0.5]), others), [1])


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scikit_learn_agrees_on_top_1_and_top_5() -> None:
    """Its balanced accuracy, and its top-k accuracy with classes weighted to be equal."""
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 4, 5, 7, 8], 300)  # 3 and 6 are absent
    scores = rng.normal(size=(300, 9)) + 1.5 * np.eye(9)[truth]
    others = scores.copy()
    others[np.arange(300), truth] = -np.inf
    ranks = rank_among(scores[np.arange(300), truth], others)
    totals = np.bincount(truth, minlength=9).astype(float)

    def accuracy(k: int) -> float:
        hits = np.bincount(truth[ranks < k], minlength=9).astype(float)
        return float(known_mean(ratio(hits, totals)))

    np.testing.assert_allclose(accuracy(1), balanced_accuracy_score(truth, scores.argmax(1)))
    weights = 1 / totals[truth]
    expected = top_k_accuracy_score(
        truth, scores, k=5, labels=np.arange(9), sample_weight=weights / weights.sum()
    )
    np.testing.assert_allclose(accuracy(5), expected)

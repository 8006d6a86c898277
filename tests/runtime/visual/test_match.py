"""The same things get the same colours."""

import numpy as np
import pytest

from atas_deploy.runtime.visual.maps import Clusters
from atas_deploy.runtime.visual.match import best_pairs, match_clusters, match_components


def clusters(labels: np.ndarray, count: int) -> Clusters:
    """Clusters whose scores are 1 where they are and 0 elsewhere."""
    return Clusters(labels.astype(np.int32), np.eye(count, dtype=np.float32)[labels])


def test_the_best_pair_comes_first() -> None:
    """By hand: 9 pairs row 0 with column 1, then 6 row 2 with column 0, then row 1, column 2."""
    value = np.array([[8, 9, 1], [5, 7, 0], [6, 2, 3]])
    np.testing.assert_array_equal(best_pairs(value), [2, 0, 1])


def test_columns_left_over_get_new_numbers() -> None:
    """Three columns and two rows: the last one gets 2."""
    np.testing.assert_array_equal(best_pairs(np.array([[1, 9, 3], [8, 0, 5]])), [1, 0, 2])


@pytest.mark.parametrize("order", [[2, 0, 1, 3], [3, 2, 1, 0]])
def test_clusters_renumbered_come_back(order: list[int]) -> None:
    """A permutation of the numbers is undone, of labels and of scores."""
    first = np.arange(24).reshape(4, 6) % 4
    got = match_clusters(clusters(np.array(order)[first], 4), clusters(first, 4))
    np.testing.assert_array_equal(got.labels, first)
    np.testing.assert_array_equal(got.scores.argmax(axis=-1), first)


def test_clusters_match_across_grids() -> None:
    """A grid of twice the size has the numbers of the coarse one."""
    first = np.array([[0, 0, 1], [2, 2, 1]])
    fine = np.array([1, 2, 0])[first].repeat(2, axis=0).repeat(2, axis=1)
    got = match_clusters(clusters(fine, 3), clusters(first, 3))
    np.testing.assert_array_equal(got.labels, first.repeat(2, axis=0).repeat(2, axis=1))


def test_fewer_clusters_keep_their_scores_highest() -> None:
    """A number that is not used wins nowhere."""
    first = np.array([[0, 1, 2, 2]])
    got = match_clusters(clusters(np.array([[1, 1, 0, 0]]), 2), clusters(first, 3))
    np.testing.assert_array_equal(got.scores.argmax(axis=-1), got.labels)
    assert got.labels[0, 3] == 2


def test_components_in_another_order_and_sign_come_back() -> None:
    """Order and sign of the first are restored."""
    first = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    other = first[..., [2, 0, 1]] * np.array([-1, 1, -2], np.float32)
    got = match_components(other, first)
    np.testing.assert_allclose(got, first * np.array([1, 2, 1], np.float32), atol=1e-6)

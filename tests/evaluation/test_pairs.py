"""Histograms of the cosines of pairs of patches."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from atas_deploy.core.metrics import auc_of_histograms
from atas_deploy.evaluation import pairs as module
from atas_deploy.evaluation.pairs import BINS, KEPT, count_pairs, count_pairs_across, thin
from atas_deploy.evaluation.patches import Patches


def patches(seed: int, count: int, *, spread: float = 0.0, classes: int = 4) -> Patches:
    """Random unit vectors (count, 16), drawn to the direction of their class."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(1, classes + 1, count)
    centres = np.random.default_rng(99).standard_normal((classes + 1, 16))
    features = generator.standard_normal((count, 16)) + spread * centres[labels]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return Patches(features.astype(np.float32), labels)


def all_pairs(a: Patches, b: Patches | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs, one by one, and which are of one class."""
    other = a if b is None else b
    cosines = a.features.astype(float) @ other.features.astype(float).T
    same = a.labels[:, None] == other.labels
    which = np.triu_indices(len(a.labels), k=1) if b is None else np.indices(cosines.shape)
    return cosines[tuple(which)].ravel(), same[tuple(which)].ravel()


def exact_auc(a: Patches, b: Patches | None = None) -> float:
    """By scikit-learn."""
    cosines, same = all_pairs(a, b)
    return float(roc_auc_score(same, cosines))


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_area_of_pairs_equals_sklearn(spread: float) -> None:
    """Within 0.0001, though only histograms of few bins are kept."""
    found = patches(0, 300, spread=spread)
    counts = count_pairs(found)
    assert auc_of_histograms(*counts) == pytest.approx(exact_auc(found), abs=1e-4)
    assert auc_of_histograms(*thin(counts)) == pytest.approx(exact_auc(found), abs=1e-4)


def test_area_of_pairs_between_two_sets_equals_sklearn() -> None:
    """Each of the one with each of the other."""
    a, b = patches(0, 200, spread=0.7), patches(1, 150, spread=0.7)
    counts = count_pairs(a, b)
    assert counts.sum() == 200 * 150
    assert auc_of_histograms(*counts) == pytest.approx(exact_auc(a, b), abs=1e-4)


def close_to_each_other(seed: int) -> Patches:
    """Cosines around 0.95 with a standard deviation below 0.02."""
    found = patches(seed, 300, spread=0.6)
    features = found.features + 4.5 * np.eye(16)[0]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return Patches(features.astype(np.float32), found.labels)


def test_features_that_are_close_to_each_other() -> None:
    """They are still told apart, in one picture and in the sum of several."""
    found = [close_to_each_other(seed) for seed in range(3)]
    each = [all_pairs(one) for one in found]
    cosines, same = (np.concatenate(parts) for parts in zip(*each, strict=True))
    assert cosines.std() < 0.021
    rows = [thin(count_pairs(one)) for one in found]
    expected = roc_auc_score(same, cosines)
    assert auc_of_histograms(*np.sum(rows, axis=0)) == pytest.approx(expected, abs=1e-4)
    assert auc_of_histograms(*rows[0]) == pytest.approx(exact_auc(found[0]), abs=1e-4)


def test_rare_pairs_of_one_class_keep_their_bins() -> None:
    """A class in two of two hundred patches, whose one pair lies among many others."""
    found = patches(0, 200)
    labels = np.arange(200)
    labels[1] = 0
    rare = Patches(found.features, labels)
    counts = thin(count_pairs(rare))
    assert counts.sum(axis=1).tolist() == [1, 200 * 199 / 2 - 1]
    assert auc_of_histograms(*counts) == pytest.approx(exact_auc(rare), abs=0.01)


def test_thin_histograms_hold_the_same_pairs() -> None:
    """In few bins, which lie in the same order; few bins stay as they are."""
    counts = count_pairs(patches(0, 300, spread=0.5))
    thinned = thin(counts)
    assert np.count_nonzero(counts.any(axis=0)) > 2 * KEPT
    assert np.count_nonzero(thinned.any(axis=0)) <= KEPT
    np.testing.assert_array_equal(thinned.sum(axis=1), counts.sum(axis=1))
    centres = (counts @ np.arange(BINS)).sum() / counts.sum()
    assert (thinned @ np.arange(BINS)).sum() / counts.sum() == pytest.approx(centres, abs=1)
    few = np.zeros((2, BINS))
    few[:, [3, 500, 998]] = 7
    np.testing.assert_array_equal(thin(few), few)
    np.testing.assert_array_equal(thin(np.zeros((2, BINS))), np.zeros((2, BINS)))


def test_pairs_across_a_group_by_hand() -> None:
    """Three pictures of one, two and no patches: two pairs, both across."""
    eye = np.eye(2, dtype=np.float32)
    group = [
        Patches(eye[:1], np.array([1])),
        Patches(eye, np.array([1, 2])),
        Patches(eye[:0], np.array([], int)),
    ]
    counts = count_pairs_across(group)
    assert counts.sum(axis=1).tolist() == [1, 1]
    assert counts[0, BINS - 1] == 1
    assert count_pairs_across(group[:1]).sum() == 0


def test_each_pair_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where not all fit into memory at once."""
    found = patches(0, 50)
    whole = count_pairs(found)
    assert whole.sum() == 50 * 49 / 2
    monkeypatch.setattr(module, "_AT_ONCE", 7 * 50)
    np.testing.assert_array_equal(count_pairs(found), whole)


def test_random_features_know_nothing() -> None:
    """The area is one half."""
    assert auc_of_histograms(*count_pairs(patches(0, 1_000))) == pytest.approx(0.5, abs=0.005)


def test_perfect_features_know_all() -> None:
    """One direction for each class."""
    labels = np.arange(40) % 4
    assert (
        auc_of_histograms(*count_pairs(Patches(np.eye(4, dtype=np.float32)[labels], labels))) == 1
    )


def test_cosines_of_one_and_minus_one_have_bins() -> None:
    """The last one and the first one, also where rounding goes beyond."""
    features = np.array([[1.0000001, 0], [1, 0], [-1.0000001, 0]], np.float32)
    counts = count_pairs(Patches(features, np.array([1, 1, 2])))
    assert counts[0, BINS - 1] == 1
    assert counts[1, 0] == 2

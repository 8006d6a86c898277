"""K-means."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from atas_deploy.core.cluster import kmeans
from atas_deploy.core.errors import ConfigError

SIZES = (50, 30, 12)


def blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three tight groups of unit vectors (92, 8), shuffled, and the group of each, by size."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(3), SIZES))
    vectors = np.eye(8, dtype=np.float32)[group] + rng.normal(0, 0.05, (92, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), group


def test_groups_are_found_and_numbered_by_size() -> None:
    """The largest is 0, and each centre is the mean of its vectors."""
    vectors, group = blobs()
    labels, centres = kmeans(vectors, 3)
    np.testing.assert_array_equal(labels, group)
    means = [vectors[group == number].mean(axis=0) for number in range(3)]
    np.testing.assert_allclose(centres, means, atol=1e-5)


def test_as_compact_as_scikit_learn() -> None:
    """On vectors without groups, where the best of several starts counts, within a twentieth."""
    vectors = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    labels, centres = kmeans(vectors, 6)
    found = np.square(vectors - centres[labels]).sum()
    reference = KMeans(6, n_init=10, random_state=0).fit(vectors).inertia_
    assert found < 1.05 * reference
    distances = np.square(vectors[:, None] - centres).sum(axis=2)
    assert (distances.argmin(axis=1) == labels).mean() > 0.99


def test_equal_arguments_give_equal_clusters() -> None:
    """Whatever was drawn in between."""
    vectors = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    first = kmeans(vectors, 7)
    kmeans(vectors[::2], 3, seed=5)
    for one, two in zip(first, kmeans(vectors, 7), strict=True):
        np.testing.assert_array_equal(one, two)


def test_no_more_clusters_than_vectors() -> None:
    """Each vector is its own then."""
    vectors = np.eye(3, dtype=np.float32)
    labels, centres = kmeans(vectors, 8)
    np.testing.assert_allclose(centres[labels], vectors)
    assert sorted(labels.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1])
def test_one_vector_is_a_cluster_and_none_are_none(count: int) -> None:
    """A picture of one cell."""
    vectors = np.array([[1, 2, 3]], np.float32)[:count]
    labels, centres = kmeans(vectors, 4)
    np.testing.assert_array_equal(labels, np.zeros(count))
    np.testing.assert_array_equal(centres, vectors)


def test_equal_vectors_are_no_trouble() -> None:
    """A picture of one colour: every centre is that vector."""
    labels, centres = kmeans(np.ones((20, 3), np.float32), 4)
    np.testing.assert_allclose(centres[labels], 1)


def test_no_cluster_is_refused() -> None:
    """At least one."""
    with pytest.raises(ConfigError, match="Got 0 clusters; expected 1 or more"):
        kmeans(np.ones((2, 2), np.float32), 0)

"""Maps of dense features against written-out float64 references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.vectors import unit
from atas_deploy.core.vocabulary import build_vocabulary
from atas_deploy.runtime.visual.maps import (
    cluster_map,
    component_colors,
    component_map,
    nearest_cells,
    resize_cells,
    similarity_map,
    word_maps,
)

GRID, WIDTH = (5, 7), 12


def features(seed: int = 0, grid: tuple[int, int] = GRID, width: int = WIDTH) -> np.ndarray:
    """Unit vectors (h, w, D)."""
    return unit(np.random.default_rng(seed).normal(size=(*grid, width)).astype(np.float32))


def test_clusters_are_those_of_three_clear_groups() -> None:
    """Cells of one group share a cluster; the largest group is cluster 0."""
    groups = np.zeros(GRID, int)
    groups[:, 4:6], groups[:, 6] = 1, 2
    centres = np.eye(WIDTH, dtype=np.float32)[:3]
    dense = unit(centres[groups] + 0.01 * features())
    np.testing.assert_array_equal(cluster_map(dense, 3).labels, groups)


def test_the_score_of_a_cell_is_largest_for_its_cluster() -> None:
    """The scores rank clusters as the distance to their centres does."""
    clusters = cluster_map(features(1), 6)
    np.testing.assert_array_equal(clusters.scores.argmax(axis=-1), clusters.labels)


def test_no_more_clusters_than_cells() -> None:
    """Two cells make two clusters."""
    assert cluster_map(features(grid=(1, 2)), 8).scores.shape == (1, 2, 2)


def test_zero_clusters_are_refused() -> None:
    """One sentence."""
    with pytest.raises(ConfigError, match="expected 1 or more"):
        cluster_map(features(), 0)


def test_components_are_those_of_scikit_learn() -> None:
    """Up to the sign, which makes the largest loading positive here."""
    dense = features(2)
    cells = dense.reshape(-1, WIDTH).astype(np.float64)
    pca = PCA(3, svd_solver="full").fit(cells)
    loading = pca.components_[np.arange(3), np.abs(pca.components_).argmax(axis=1)]
    wanted = pca.transform(cells) * np.sign(loading)
    np.testing.assert_allclose(component_map(dense).reshape(-1, 3), wanted, atol=1e-5)


def test_missing_components_are_zero() -> None:
    """Features of two dimensions have no third component."""
    got = component_map(features(width=2))
    assert got[..., :2].any()
    assert not got[..., 2].any()


def test_colors_cut_the_outer_percents() -> None:
    """The middle 98 percent of a component fill [0, 1]."""
    ramp = np.linspace(-5, 20, 101, dtype=np.float32).reshape(1, 101, 1)
    got = component_colors(np.concatenate([ramp, -ramp, 0 * ramp], axis=-1))
    np.testing.assert_allclose(got[0, :, 0], np.clip(np.arange(-1, 100) / 98, 0, 1), atol=1e-5)
    np.testing.assert_allclose(got[..., 1], 1 - got[..., 0], atol=1e-5)
    assert not got[..., 2].any()


def test_similarity_is_the_cosine() -> None:
    """Cell by cell, as written out."""
    dense = features(3)
    got = similarity_map(dense, (2, 5))
    for row, column in np.ndindex(GRID):
        wanted = sum(float(a) * float(b) for a, b in zip(dense[row, column], dense[2, 5]))  # noqa: B905
        assert got[row, column] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("background", ["none", "road,wall"])
def test_words_are_softmax_over_all_words_and_the_best_synonym(background: str) -> None:
    """Classes get their most probable word; the background's words compete and are not shown."""
    vocabulary = build_vocabulary("dog|puppy,grass", background=background)
    texts = features(4, (1, len(vocabulary.queries)))[0]
    dense = features(5)
    got = word_maps(dense, texts, vocabulary, logit_scale=20.0)
    cosine = dense.astype(np.float64) @ texts.astype(np.float64).T
    shares = np.exp(20 * cosine) / np.exp(20 * cosine).sum(axis=-1, keepdims=True)
    skip = len(vocabulary.background)
    for maps, wanted in ((got.probability, shares), (got.cosine, cosine)):
        assert maps.shape == (*GRID, 2)
        np.testing.assert_allclose(maps[..., 0], wanted[..., skip : skip + 2].max(-1), atol=1e-5)
        np.testing.assert_allclose(maps[..., 1], wanted[..., skip + 2], atol=1e-5)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_resizing_cells_keeps_the_mean(h: int, w: int, rows: int, columns: int) -> None:
    """Area averages weigh every part of the picture alike."""
    cells = np.random.default_rng(h * w).random((h, w, 2)).astype(np.float32)
    got = resize_cells(cells, (rows, columns))
    assert got.shape == (rows, columns, 2)
    np.testing.assert_allclose(got.mean(axis=(0, 1)), cells.mean(axis=(0, 1)), atol=1e-5)


def test_resizing_to_the_same_grid_changes_nothing() -> None:
    """Nor does repeating cells and averaging them again."""
    cells = features(6)[..., 0]
    np.testing.assert_allclose(resize_cells(cells, GRID), cells, atol=1e-7)
    larger = np.repeat(np.repeat(cells, 3, axis=0), 2, axis=1)
    np.testing.assert_allclose(resize_cells(larger, GRID), cells, atol=1e-6)


def test_nearest_cells_repeat() -> None:
    """Labels on a grid of twice the size are repeated."""
    labels = np.arange(6, dtype=np.int32).reshape(2, 3)
    wanted = labels.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(nearest_cells(labels, (4, 6)), wanted)

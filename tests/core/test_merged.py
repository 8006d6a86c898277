"""Windows merged pixel by pixel, against the published steps written out in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.core.geometry import Tiles, cut_tiles
from atas_deploy.core.masks import merged, merged_label_map, refined, refined_merged_label_map
from atas_deploy.core.refine import affinity, pamr

NEAR = 2e-6  # closer logits, relative to the largest, are ties in float32


def bilinear(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Half-pixel centres, edges clamped, one axis after the other: (h, w, Q) -> (H, W, Q)."""
    for axis, length in enumerate(size):
        count = grid.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, count - 1)
        weight = np.expand_dims(place - low, [a for a in (0, 1, 2) if a != axis])
        grid = np.take(grid, low, axis) * (1 - weight) + np.take(grid, high, axis) * weight
    return grid


def plain_logits(
    dense: np.ndarray, queries: np.ndarray, tiles: Tiles, size: tuple[int, int]
) -> np.ndarray:
    """Every query at full size: window by window, then the mean, then the output."""
    height, width = tiles.window
    total = np.zeros((*tiles.size, queries.shape[1]))
    covered = np.zeros((*tiles.size, 1))
    for r, y in enumerate(tiles.rows):
        for c, x in enumerate(tiles.columns):
            logits = dense[r, c].astype(np.float64) @ queries.astype(np.float64)
            total[y : y + height, x : x + width] += bilinear(logits, tiles.window)
            covered[y : y + height, x : x + width] += 1
    return bilinear(total / covered, size)


def chance(z: np.ndarray) -> np.ndarray:
    """Softmax probability of the winner, over the last axis."""
    return 1 / np.exp(z - z.max(-1, keepdims=True)).sum(-1)


def make_dense(tiles: Tiles, cells: tuple[int, int], width: int, *, seed: int = 0) -> np.ndarray:
    """Seeded features of all windows."""
    shape = (len(tiles.rows), len(tiles.columns), *cells, width)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check(
    tiles: Tiles,
    cells: tuple[int, int],
    query_class: np.ndarray,
    size: tuple[int, int],
    *,
    least: float | None = None,
    seed: int = 0,
) -> None:
    """Compare every pixel that is no tie with the formula."""
    dense = make_dense(tiles, cells, 8, seed=seed)
    queries = np.random.default_rng(seed + 1).normal(size=(8, len(query_class))).astype(np.float32)
    z = plain_logits(dense, queries, tiles, size)
    found = merged_label_map(
        dense, queries, query_class, tiles=tiles, size=size, threshold=least, probability=True
    )
    p = chance(z)
    expected = query_class[z.argmax(-1)]
    ordered = np.sort(z, axis=-1)
    clear = np.full(size, True)
    if len(query_class) > 1:
        clear = ordered[..., -1] - ordered[..., -2] > NEAR * max(1, abs(z).max())
    if least:
        expected = np.where(p < least, 0, expected)
        clear &= abs(p - least) > 1e-5
    np.testing.assert_array_equal(found.labels[clear], expected[clear])
    np.testing.assert_allclose(found.probability, p, atol=1e-5)


lengths = st.integers(1, 90)


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    picture=st.tuples(lengths, lengths),
    size=st.tuples(lengths, lengths),
    cells=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    window=st.integers(2, 60),
    least=st.one_of(st.none(), st.floats(0.01, 0.99)),
)
def test_merged_label_map_equals_the_formula(
    data: st.DataObject,
    picture: tuple[int, int],
    size: tuple[int, int],
    cells: tuple[int, int],
    window: int,
    least: float | None,
) -> None:
    """Odd sizes, one window or many, longer than the picture too, with synonyms and thresholds."""
    tiles = cut_tiles(
        picture, window=window, stride=data.draw(st.integers(1 + window // 8, window))
    )
    words = data.draw(st.integers(1, 9))
    query_class = np.sort([data.draw(st.integers(0, 4)) for _ in range(words)])
    check(tiles, cells, query_class, size, least=least)


def test_more_words_than_are_taken_at_once() -> None:
    """Hundreds of words, several a class, beyond 254 classes."""
    tiles = cut_tiles((67, 101), window=48, stride=24)
    check(tiles, (3, 3), np.arange(900) // 3, (130, 171), least=0.2)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same labels and scores, however little is held at once."""
    tiles = cut_tiles((67, 101), window=48, stride=24)
    dense, words = make_dense(tiles, (3, 3), 8), make_dense(tiles, (3, 3), 8, seed=1)
    queries = words.reshape(-1, 8)[:50].T
    options = {"tiles": tiles, "size": (130, 171), "threshold": 0.25}
    whole = merged_label_map(dense, queries, np.arange(50), **options)
    for name, least in (("_CELLS", 1), ("_BLOCK", 1), ("_SIDE", 7), ("_QUERIES", 3)):
        monkeypatch.setattr(merged, name, least)
    parts = merged_label_map(dense, queries, np.arange(50), **options)
    assert 0.1 < (whole.labels > 0).mean() < 0.9  # the threshold bites
    assert (parts.labels == whole.labels).mean() > 0.9999
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-5)


def test_ties_go_to_the_lowest() -> None:
    """Where nothing tells words apart the first one wins, however many are taken at once."""
    tiles = cut_tiles((40, 40), window=32, stride=16)
    dense = make_dense(tiles, (2, 2), 8)
    queries = np.zeros((8, 120), np.float32)
    found = merged_label_map(dense, queries, np.arange(120), tiles=tiles, size=(50, 50))
    assert found.labels.max() == 0


def test_scores_are_taken_on_a_grid_of_cells() -> None:
    """Mean probability over the merged logits at the centres of cells, class by class."""
    tiles = cut_tiles((64, 96), window=32, stride=16)
    dense = make_dense(tiles, (2, 2), 8)
    queries = np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
    query_class = np.array([0, 1, 1, 2, 3])
    found = merged_label_map(dense, queries, query_class, tiles=tiles, size=(70, 80))
    z = plain_logits(dense, queries, tiles, (4, 6))
    label, p = query_class[z.argmax(-1)], chance(z)
    expected = [p[label == i].mean() if (label == i).any() else 0 for i in (1, 2, 3)]
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    assert found.probability is None


def test_dtype_follows_the_classes() -> None:
    """Beyond 254 classes labels have 16 bits."""
    tiles = cut_tiles((16, 16), window=16, stride=16)
    dense = make_dense(tiles, (2, 2), 8)
    queries = np.ones((8, 2), np.float32)
    for last, dtype in ((254, np.uint8), (255, np.uint16)):
        found = merged_label_map(dense, queries, np.array([0, last]), tiles=tiles, size=(5, 5))
        assert found.labels.dtype == dtype


@pytest.mark.parametrize("band", [1_000_000, 1])
def test_refined_at_the_size_of_the_output(monkeypatch: pytest.MonkeyPatch, band: int) -> None:
    """PAMR of each query's merged map at full size, in one band or in many."""
    monkeypatch.setattr(refined, "_BAND", band)
    rng = np.random.default_rng(0)
    tiles, size = cut_tiles((64, 70), window=48, stride=30), (450, 31)
    dense = make_dense(tiles, (3, 3), 8)
    queries = rng.normal(size=(8, 6)).astype(np.float32)
    image = rng.integers(0, 256, (64, 70, 3), np.uint8)
    found = refined_merged_label_map(
        dense, queries, np.arange(6), tiles=tiles, image=image, size=size, threshold=0.3
    )
    logits = plain_logits(dense, queries, tiles, size)
    weights = affinity(bilinear(image.astype(np.float64), size).astype(np.float32))
    z = np.stack([pamr(m.astype(np.float32), weights) for m in np.moveaxis(logits, 2, 0)], -1)
    p = chance(z)
    expected = np.where(p < 0.3, 0, z.argmax(-1))
    assert (found.labels == expected).mean() > 0.9995
    np.testing.assert_allclose(found.probability, p, atol=1e-3)

"""Label maps against the formula, written out in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atas_deploy.core.masks import as_labels, class_scores, label_map


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


def softmax(z: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), threshold=st.one_of(st.none(), st.floats(0.05, 0.95)))
def test_label_map_equals_the_formula(data: st.DataObject, threshold: float | None) -> None:
    """Any grid, size, number of queries and threshold; pixels within 1e-4 of a tie may differ."""
    h, w, q = (data.draw(st.integers(1, 6)) for _ in range(3))
    size = (data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)))
    logits = data.draw(hnp.arrays(np.float32, (h, w, q), elements=st.floats(-20, 20, width=32)))
    query_class = np.sort(np.array([data.draw(st.integers(0, 3)) for _ in range(q)]))
    result = label_map(logits, query_class, size=size, threshold=threshold)
    z = bilinear(logits.astype(np.float64), size)
    probability = softmax(z).max(-1)
    expected = query_class[z.argmax(-1)]
    ordered = np.sort(z, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-4 if q > 1 else np.ones(size, bool)
    if threshold is not None:
        expected = np.where(probability < threshold, 0, expected)
        clear &= abs(probability - threshold) > 1e-4
        np.testing.assert_allclose(result.probability, probability, atol=1e-4)
    np.testing.assert_array_equal(result.labels[clear], expected[clear])


def test_ties_go_to_the_lowest_class() -> None:
    """Equal logits everywhere give the first query."""
    result = label_map(np.zeros((2, 2, 3), np.float32), np.array([0, 1, 2]), size=(5, 7))
    assert result.labels.max() == 0


def test_dtype_leaves_void_free() -> None:
    """Up to 254 classes fit 8 bits beside void, more need 16."""
    assert as_labels(np.array([0, 254])).dtype == np.uint8
    assert as_labels(np.array([0, 255])).dtype == np.uint16


def test_inputs_are_not_changed() -> None:
    """The caller's logits stay as they are."""
    logits = np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32)
    before = logits.copy()
    label_map(logits, np.array([0, 1, 2, 3]), size=(9, 9), threshold=0.5)
    np.testing.assert_array_equal(logits, before)


def test_scores_are_mean_probability_over_won_cells() -> None:
    """Written out cell by cell; a class that wins nothing scores 0."""
    logits = np.array([[[2.0, 0, 0, -9], [0, 3, 1, -9], [0, 1, 3, -9]]], np.float32)
    p = softmax(logits[0].astype(np.float64))
    scores = class_scores(logits, np.array([0, 1, 1, 2]), classes=2)
    assert scores[0] == pytest.approx((p[1, 1] + p[2, 2]) / 2, abs=1e-6)
    assert scores[1] == 0

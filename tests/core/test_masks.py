"""Label maps against the formula, written out in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atas_deploy.core.masks import LabelMap, as_labels, label, label_map, threshold

NEAR = 2e-6  # closer logits, and probabilities, are ties in float32


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


def label_logits(
    logits: np.ndarray, query_class: np.ndarray, size: tuple[int, int], **options: object
) -> LabelMap:
    """Label given logits: the words are unit vectors, so that the product is exact."""
    words = np.eye(logits.shape[-1], dtype=np.float32)
    return label_map(logits, words, query_class, size=size, **options)


def check(
    logits: np.ndarray,
    query_class: np.ndarray,
    size: tuple[int, int],
    *,
    least: float | None = None,
    probability: bool = False,
    near: float = NEAR,
) -> None:
    """Compare every pixel that is no tie with the formula."""
    result = label_logits(logits, query_class, size, threshold=least, probability=probability)
    z = bilinear(logits.astype(np.float64), size)
    p = softmax(z).max(-1)
    expected = query_class[z.argmax(-1)]
    ordered = np.sort(z, axis=-1)
    clear = np.full(size, True)
    if z.shape[-1] > 1:
        clear = ordered[..., -1] - ordered[..., -2] > near * max(1, abs(logits).max())
    if least is not None:
        expected = np.where(p < least, 0, expected)
        clear &= abs(p - least) > 1e-5
    np.testing.assert_array_equal(result.labels[clear], expected[clear])
    if probability:
        np.testing.assert_allclose(result.probability, p, atol=1e-4)


def smooth_logits(
    rng: np.random.Generator, shape: tuple[int, int, int], *, spread: float = 3
) -> np.ndarray:
    """Logits that vary like those of pictures: neighbours are alike, few words are near the top."""
    coarse = rng.normal(size=(3, 4, shape[2])) * spread
    noise = rng.normal(size=shape) * spread / 6
    return (bilinear(coarse, shape[:2]) + noise).astype(np.float32)


thresholds = st.one_of(st.none(), st.floats(0.01, 0.99))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), least=thresholds, probability=st.booleans())
def test_label_map_equals_the_formula(
    data: st.DataObject, least: float | None, probability: bool
) -> None:
    """Any grid from one cell on, any size up or down, any logits, any threshold."""
    h, w, q = (data.draw(st.integers(1, 6)) for _ in range(3))
    size = (data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)))
    logits = data.draw(hnp.arrays(np.float32, (h, w, q), elements=st.floats(-20, 20, width=32)))
    query_class = np.sort(np.array([data.draw(st.integers(0, 3)) for _ in range(q)]))
    check(logits, query_class, size, least=least, probability=probability)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    grid=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    scale=st.tuples(st.floats(0.3, 30), st.floats(0.3, 30)),
    q=st.sampled_from([2, 7, 65, 300]),
    share=st.one_of(st.none(), st.floats(0, 1)),
)
def test_label_map_on_what_pictures_look_like(
    seed: int, grid: tuple[int, int], scale: tuple[float, float], q: int, share: float | None
) -> None:
    """Smooth maps with many words, and thresholds in the middle of what occurs."""
    logits = smooth_logits(np.random.default_rng(seed), (*grid, q))
    size = max(1, int(grid[0] * scale[0])), max(1, int(grid[1] * scale[1]))
    least = None if share is None else float(np.quantile(softmax(logits).max(-1), share))
    check(logits, np.arange(q) // 3, size, least=least)


@pytest.mark.parametrize("gap", [0, 1e-7, 1e-5, 1e-3])
def test_near_ties(gap: float) -> None:
    """Words that are almost equal everywhere stay in order."""
    rng = np.random.default_rng(0)
    base = smooth_logits(rng, (9, 11, 5))
    logits = np.concatenate([base, base + np.float32(gap) * rng.choice([-1, 1], base.shape)], -1)
    check(logits.astype(np.float32), np.arange(10), (200, 230), least=0.3)


def test_equal_words_go_to_the_lowest() -> None:
    """A word given twice never wins the second time; nothing but ties gives the first word."""
    base = smooth_logits(np.random.default_rng(0), (9, 11, 5))
    result = label_logits(np.concatenate([base, base], -1), np.arange(10), (200, 230))
    assert result.labels.max() < 5
    assert label_logits(np.zeros((2, 2, 3), np.float32), np.arange(3), (5, 7)).labels.max() == 0


def test_bands_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same labels and scores, however little is held at once."""
    logits = smooth_logits(np.random.default_rng(1), (13, 17, 40))
    least = float(np.quantile(softmax(logits).max(-1), 0.5))
    whole = label_logits(logits, np.arange(40), (300, 333), threshold=least)
    monkeypatch.setattr(label, "_BAND", 1)
    monkeypatch.setattr(threshold, "_CHUNK", 1)
    parts = label_logits(logits, np.arange(40), (300, 333), threshold=least)
    assert 0.1 < (whole.labels > 0).mean() < 0.9  # the threshold bites
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-6)


def test_probability_needs_no_threshold_and_agrees_with_it() -> None:
    """The plain form and the fast one give one answer."""
    logits = smooth_logits(np.random.default_rng(2), (12, 15, 30))
    least = float(np.quantile(softmax(logits).max(-1), 0.5))
    fast = label_logits(logits, np.arange(30), (200, 210), threshold=least)
    plain = label_logits(logits, np.arange(30), (200, 210), threshold=least, probability=True)
    clear = abs(plain.probability - least) > 1e-5
    np.testing.assert_array_equal(fast.labels[clear], plain.labels[clear])
    np.testing.assert_allclose(fast.scores, plain.scores, atol=1e-6)
    assert fast.probability is None


def test_dtype_leaves_void_free() -> None:
    """Up to 254 classes fit 8 bits beside void, more need 16."""
    assert as_labels(np.array([0, 254])).dtype == np.uint8
    assert as_labels(np.array([0, 255])).dtype == np.uint16


def test_inputs_are_not_changed() -> None:
    """The caller's features stay as they are."""
    logits = np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32)
    before = logits.copy()
    label_logits(logits, np.arange(4), (9, 9), threshold=0.5)
    np.testing.assert_array_equal(logits, before)


def test_scores_are_mean_probability_over_won_cells() -> None:
    """Written out cell by cell; a class that wins nothing scores 0."""
    logits = np.array([[[2.0, 0, 0, -9], [0, 3, 1, -9], [0, 1, 3, -9]]], np.float32)
    p = softmax(logits[0].astype(np.float64))
    scores = label_logits(logits, np.array([0, 1, 1, 2]), (4, 30)).scores
    assert scores[0] == pytest.approx((p[1, 1] + p[2, 2]) / 2, abs=1e-6)
    assert scores[1] == 0

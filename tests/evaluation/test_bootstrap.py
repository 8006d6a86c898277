"""Intervals by the bootstrap, and the comparison of two runs."""

from collections.abc import Mapping

import numpy as np
import pytest

from atas_deploy.core.errors import InputError
from atas_deploy.core.metrics import Areas, iou, known_mean, ratio
from atas_deploy.evaluation.bootstrap import bootstrap, compare, draw_weights
from atas_deploy.evaluation.rows import Counts, FloatArray, Row, Rows


def accuracy(totals: Counts) -> Mapping[str, np.ndarray]:
    """Share of right answers."""
    return {"accuracy": ratio(totals["right"][..., 0], totals["asked"][..., 0])}


def rows_of(right: np.ndarray, asked: np.ndarray) -> Rows:
    """A row for each image."""
    rows = Rows()
    for i, (r, n) in enumerate(zip(right.tolist(), asked.tolist(), strict=True)):
        rows.add(Row(str(i), {"right": r, "asked": n}))
    return rows


def drawn(seed: int, *, count: int = 60, chance: float = 0.7) -> Rows:
    """Images with some answers each, right with a chance."""
    generator = np.random.default_rng(seed)
    asked = generator.integers(1, 20, count)
    return rows_of(generator.binomial(asked, chance), asked)


def drawn_weights(rows: int, *, replicates: int, seed: int, at_once: int = 7) -> np.ndarray:
    """All weights in one array."""
    blocks = draw_weights(rows, replicates=replicates, seed=seed, at_once=at_once)
    return np.concatenate(list(blocks))


def test_weights_do_not_depend_on_blocks() -> None:
    """One by one or all at once, each replicate draws as many images as there are."""
    some, whole = (drawn_weights(9, replicates=20, seed=1, at_once=n) for n in (1, 50))
    np.testing.assert_array_equal(some, whole)
    assert (whole.sum(axis=1) == 9).all()


def test_interval_equals_a_loop() -> None:
    """Images drawn one by one, with repeats, and percentiles of the scores."""
    right, asked = np.array([3, 0, 5, 2, 2]), np.array([4, 3, 5, 9, 2])
    found = bootstrap(rows_of(right, asked), accuracy, replicates=200, seed=3)["accuracy"]
    scores = []
    for weights in drawn_weights(5, replicates=200, seed=3):
        images = [i for i, times in enumerate(weights.tolist()) for _ in range(times)]
        assert len(images) == 5
        scores.append(sum(right[i] for i in images) / sum(asked[i] for i in images))
    assert found.value == pytest.approx(12 / 23)
    low, high = np.percentile(scores, [2.5, 97.5]) - np.mean(scores) + 12 / 23
    assert (found.low, found.high) == pytest.approx((low, high))


def test_interval_covers_the_truth() -> None:
    """Of 200 samples, 95 % have the true share in the interval, give or take what chance may do."""
    found = [bootstrap(drawn(i), accuracy, replicates=300)["accuracy"] for i in range(200)]
    covered = np.mean([score.low <= 0.7 <= score.high for score in found])
    assert 0.89 < covered < 0.99


def test_interval_shrinks_with_the_square_root() -> None:
    """Of 16 times as many images it is a quarter as wide."""
    few, many = (bootstrap(drawn(0, count=count), accuracy)["accuracy"] for count in (100, 1_600))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.2)


def test_a_seed_repeats_and_others_differ() -> None:
    """Intervals depend on the seed only."""
    one, again, other = (bootstrap(drawn(0), accuracy, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_replicates_without_a_score_do_not_count() -> None:
    """Here a replicate may lack the one image that was asked anything; no score at all is NaN."""
    one = bootstrap(rows_of(np.array([1, 0]), np.array([2, 0])), accuracy)["accuracy"]
    assert (one.value, one.low, one.high) == (0.5, 0.5, 0.5)
    none = bootstrap(rows_of(np.zeros(2), np.zeros(2)), accuracy)["accuracy"]
    assert np.isnan([none.value, none.low, none.high]).all()


def test_one_image_has_no_interval() -> None:
    """It says nothing of others."""
    score = bootstrap(rows_of(np.array([1]), np.array([2])), accuracy)["accuracy"]
    assert score.value == 0.5
    assert np.isnan([score.low, score.high]).all()
    better = rows_of(np.array([2]), np.array([2]))
    found = compare(rows_of(np.array([1]), np.array([2])), better, accuracy)["accuracy"]
    assert (found.value, found.p) == (0.5, 1)
    assert np.isnan([found.low, found.high]).all()


def test_nothing_to_measure() -> None:
    """Without rows there is a sentence."""
    with pytest.raises(InputError, match="nothing to measure"):
        bootstrap(Rows(), accuracy)


def test_comparison_finds_a_difference() -> None:
    """A model that is a little better on every image is surely better, though both vary more."""
    generator = np.random.default_rng(0)
    asked = np.full(100, 100)
    right = generator.integers(20, 90, 100)
    a, b = rows_of(right, asked), rows_of(right + generator.integers(0, 4, 100), asked)
    found = compare(a, b, accuracy)["accuracy"]
    assert 0 < found.low < found.value < found.high < 0.03
    assert found.p <= 2 / 1001
    alone = bootstrap(a, accuracy)["accuracy"]
    assert alone.high - alone.low > 10 * (found.high - found.low)


def test_comparison_of_equal_runs_finds_none() -> None:
    """A run beside itself."""
    found = compare(drawn(0), drawn(0), accuracy)["accuracy"]
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_comparison_of_equal_models_seldom_finds_one() -> None:
    """Two models of one quality differ at p < 0.05 in about one of twenty samples."""
    found = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        asked = np.full(50, 20)
        runs = (rows_of(generator.binomial(20, 0.6, 50), asked) for _ in range(2))
        found.append(compare(*runs, accuracy, replicates=300)["accuracy"].p < 0.05)
    assert 0.005 < np.mean(found) < 0.12


def rare_classes(seed: int, *, skill: float = 0.7) -> Rows:
    """Pictures of a common class and of one that no other picture has, with stray predictions."""
    generator, rows = np.random.default_rng(seed), Rows()
    for i in range(40):
        truth, hits, predicted = np.zeros((3, 41))
        truth[[i, 40]] = 100
        hits[[i, 40]] = generator.binomial(100, skill, 2)
        predicted += hits
        predicted[generator.integers(0, 41, 5)] += 2
        rows.add(Row(str(i), {"truth": truth, "hits": hits, "predicted": predicted}))
    return rows


def mean_iou(totals: Counts) -> dict[str, FloatArray]:
    """The mean of all classes."""
    areas = Areas(totals["hits"], totals["predicted"], totals["truth"])
    return {"miou": known_mean(iou(areas))}


def test_interval_of_rare_classes_holds_the_score() -> None:
    """Replicates miss classes, so that their mIoU is lower; the interval is not."""
    for seed in range(5):
        score = bootstrap(rare_classes(seed), mean_iou, replicates=300)["miou"]
        assert score.low < score.value < score.high


def test_comparison_with_rare_classes_seldom_finds_one() -> None:
    """Equal models with other strays: replicates of one may lose more than those of the other."""
    found = [
        compare(rare_classes(seed), rare_classes(seed + 100), mean_iou, replicates=200)["miou"].p
        for seed in range(60)
    ]
    assert np.mean(np.array(found) < 0.05) < 0.12


def test_intervals_stay_within_shares() -> None:
    """A score near 1 has an interval that ends there."""
    right = np.array([20] * 9 + [12])
    score = bootstrap(rows_of(right, np.full(10, 20)), accuracy)["accuracy"]
    assert score.low < score.value < score.high <= 1

"""Features that are off never pass, and figures are what they say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from atas_deploy.core.comparison import LIMITS, Comparison, check, compare, report, worst
from atas_deploy.core.errors import ParityError

RIGHT = Comparison(
    output="dense", shape=(1, 32, 32, 3), max_abs=0.0, cosine_mean=1, cosine_p1=1, cosine_min=1
)


def turned(degrees: np.ndarray) -> np.ndarray:
    """Unit vectors (N, 2) at angles from the first axis."""
    angles = np.radians(degrees)
    return np.float32(np.stack([np.cos(angles), np.sin(angles)], axis=-1))


def test_cosines_are_those_of_the_angles() -> None:
    """A hundred vectors turned by 1 to 100 degrees: mean, 1st percentile, minimum, difference."""
    degrees = np.arange(1, 101.0)
    found = compare("text", (100, 5), turned(degrees), turned(np.zeros(100)))
    cosines = sorted(math.cos(math.radians(d)) for d in degrees)
    assert found.cosine_mean == pytest.approx(sum(cosines) / 100)
    assert found.cosine_min == pytest.approx(cosines[0])
    assert found.cosine_p1 == pytest.approx(cosines[0] + 0.99 * (cosines[1] - cosines[0]))
    assert found.max_abs == pytest.approx(1 - math.cos(math.radians(100)))
    assert (found.agreement, found.not_finite) == (None, 0)


def test_agreement_counts_best_classes() -> None:
    """Two classes 90 degrees apart: features near the middle are not clear, one has changed."""
    queries = turned(np.float64([0, 90]))
    expected = turned(np.float64([10, 44.9, 80, 20]))
    got = turned(np.float64([12, 45.1, 80, 70]))
    found = compare("dense", (1, 32, 32, 3), got, expected, queries=queries)
    assert found.agreement == pytest.approx(2 / 4)
    assert found.clear_share == pytest.approx(3 / 4)
    assert found.agreement_clear == pytest.approx(2 / 3)


def test_nothing_clear_is_no_failure() -> None:
    """A model with random weights tells no class from another."""
    queries = turned(np.float64([0, 0.5]))
    found = compare("dense", (1,), turned(np.zeros(3)), turned(np.zeros(3)), queries=queries)
    assert (found.agreement_clear, found.clear_share) == (None, 0.0)
    check(found, LIMITS["fp16"], stage="here")


@pytest.mark.parametrize(("value", "count"), [(np.nan, 1), (np.inf, 1), (-np.inf, 1)])
@pytest.mark.parametrize("precision", LIMITS)
def test_values_that_are_not_finite_fail(value: float, count: int, precision: str) -> None:
    """One among many, in every precision."""
    got = turned(np.zeros(50))
    got[7, 1] = value
    found = compare("image", (50, 16, 16, 3), got, turned(np.zeros(50)), queries=got[:2])
    assert found.not_finite == count
    with pytest.raises(ParityError, match="has 1 values that are NaN or infinite, limit 0"):
        check(found, LIMITS[precision], stage="here")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_abs": 1.2e-4}, "the maximum difference 0.00012, limit 0.0001"),
        ({"max_abs": math.nan}, "the maximum difference nan, limit 0.0001"),
        ({"cosine_min": 0.9998}, "the smallest cosine 0.999800, limit 0.9999"),
        ({"cosine_min": math.nan}, "the smallest cosine nan"),
        ({"cosine_p1": 0.9998}, "the 1st percentile of cosines 0.999800, limit 0.9999"),
        ({"cosine_mean": 0.99998}, "the mean cosine 0.999980, limit 0.99999"),
        ({"agreement_clear": 0.9}, "the agreement where the class is clear 0.900000, limit 1"),
    ],
)
def test_each_limit_is_told(change: dict[str, float], told: str) -> None:
    """Stage, output, input shape, metric, value, limit and the cure, in one sentence."""
    with pytest.raises(ParityError) as caught:
        check(replace(RIGHT, **change), LIMITS["fp32"], stage="stage 3", cure="try again")
    assert str(caught.value) == (
        "The image encoder is not what the PyTorch model computes (stage 3): output dense for "
        f"input 1 x 32 x 32 x 3 has {told}{', limit 0.9999' if told.endswith('nan') else ''}; "
        "try again."
    )


def test_differences_are_free_in_low_precisions() -> None:
    """Only cosines and classes count there."""
    for precision in ("fp16", "bf16"):
        check(replace(RIGHT, max_abs=0.01), LIMITS[precision], stage="here")


def test_limits_get_looser_with_the_precision() -> None:
    """No limit of fp16 is stricter than that of fp32, none of bf16 than that of fp16."""
    for name in ("cosine_mean", "cosine_p1", "cosine_min", "agreement_clear"):
        values = [getattr(LIMITS[precision], name) for precision in ("fp32", "fp16", "bf16")]
        assert values == sorted(values, reverse=True)


def test_other_shape_is_refused() -> None:
    """A transposed output is not compared."""
    with pytest.raises(ParityError, match=r"shape \[2, 3\], expected \[3, 2\]"):
        compare("text", (3,), np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32))


def test_worst_figures_are_of_all_batches() -> None:
    """Each by itself: largest difference, smallest cosine and share, all that is not finite."""
    second = replace(RIGHT, max_abs=0.5, cosine_min=0.7, agreement=0.9, not_finite=2)
    text = replace(RIGHT, output="text")
    figures = worst([replace(RIGHT, cosine_p1=0.8), second, text])
    assert list(figures) == ["dense", "text"]
    dense = figures["dense"]
    assert (dense["max_abs"], dense["cosine_min"], dense["cosine_p1"]) == (0.5, 0.7, 0.8)
    assert (dense["agreement"], dense["agreement_clear"], dense["not_finite"]) == (0.9, None, 2)


def test_report_has_the_limits_of_each_output() -> None:
    """Texts are float32 in every bundle."""
    told = report("s", [RIGHT, replace(RIGHT, output="text")], LIMITS["bf16"])
    assert told["limits"]["dense"]["max_abs"] is None
    assert told["limits"]["text"]["max_abs"] == 1e-4
    assert [row["output"] for row in told["comparisons"]] == ["dense", "text"]

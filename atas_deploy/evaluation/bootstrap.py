"""Bootstrap over images: intervals of scores, and of the difference of two models.

The ends of an interval are the score plus the 2.5 and 97.5 percentiles of how far replicates lie
from their own mean. Percentiles themselves would be off where classes are rare: a replicate that
misses the only picture of a class has another mean IoU, usually a lower one, and the score itself
could lie outside.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentiles; centred
replicates for tests); Hall and Wilson, Biometrics 47, 1991 (why tests need them).

N rows, R replicates
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.evaluation.rows import AT_ONCE, FloatArray, Measure, Rows

CONFIDENCE = 0.95
_UNKNOWN = (float("nan"), float("nan"), 1.0)  # of one row, which says nothing of others


@dataclass(frozen=True, slots=True)
class Score:
    """A score with its interval.

    Attributes:
        value: on all images.
        low, high: ends of the interval; NaN where no replicate had the score, or there is one row
            only, which says nothing of others.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better B is than A on the same images.

    Attributes:
        a, b: the scores.
        value: b - a.
        low, high: ends of the interval of b - a; NaN as for `Score`.
        p: two-sided: share of the replicates that lie as far from their mean as the difference
            does from 0, or farther; at least 1 / (R + 1), and 1 if there is one row only.
    """

    a: float
    b: float
    value: float
    low: float
    high: float
    p: float


def draw_weights(
    rows: int, *, replicates: int, seed: int, at_once: int
) -> Iterator[npt.NDArray[np.int64]]:
    """How often each of N rows is drawn in each replicate, some replicates at a time.

    Yields:
        (r, N), each row of it summing to N; R rows in all, the same ones whatever `at_once` is.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, at_once):
        some = min(at_once, replicates - start)
        yield generator.multinomial(rows, np.full(rows, 1 / rows), size=some)


def bootstrap(
    rows: Rows, measure: Measure, *, replicates: int = 1000, seed: int = 0
) -> dict[str, Score]:
    """Scores, shares in [0, 1], with 95 % intervals over images.

    Raises:
        InputError: there are no rows.
    """
    values, samples = _samples(rows, measure, replicates=replicates, seed=seed)
    if len(rows) == 1:
        return {name: Score(value, *_UNKNOWN[:2]) for name, value in values.items()}
    ends = {name: np.clip(_interval(values[name], s), 0, 1) for name, s in samples.items()}
    return {
        name: Score(values[name], float(low), float(high)) for name, (low, high) in ends.items()
    }


def compare(
    a: Rows, b: Rows, measure: Measure, *, replicates: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Differences b - a with 95 % intervals: the same images are drawn for both.

    Args:
        a: rows of one model.
        b: rows of another, of the same images in the same order.
        measure: from sums to scores.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: there are no rows.
    """
    assert a.names == b.names
    first, of_a = _samples(a, measure, replicates=replicates, seed=seed)
    second, of_b = _samples(b, measure, replicates=replicates, seed=seed)
    found = {}
    for name in of_a:
        sample, value = of_b[name] - of_a[name], second[name] - first[name]
        known = (*_interval(value, sample), _p_value(value, sample)) if len(a) > 1 else _UNKNOWN
        found[name] = Difference(first[name], second[name], value, *known)
    return found


def _samples(
    rows: Rows, measure: Measure, *, replicates: int, seed: int
) -> tuple[dict[str, float], Mapping[str, FloatArray]]:
    """Scores on all rows, and on each replicate (R,)."""
    if not len(rows):
        raise InputError("There is nothing to measure: no image has a label that counts.")
    values = {name: float(value) for name, value in measure(rows.totals()).items()}
    at_once = max(1, AT_ONCE // max(len(rows), *rows.widths.values()))
    drawn = draw_weights(len(rows), replicates=replicates, seed=seed, at_once=at_once)
    blocks = [measure(rows.sums(weights)) for weights in drawn]
    return values, {name: np.concatenate([block[name] for block in blocks]) for name in values}


def _interval(value: float, sample: FloatArray) -> tuple[float, float]:
    known = sample[~np.isnan(sample)]
    if not known.size:
        return float("nan"), float("nan")
    ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = value + np.quantile(known - known.mean(), ends)
    return float(low), float(high)


def _p_value(value: float, sample: FloatArray) -> float:
    known = sample[~np.isnan(sample)]
    if not known.size:
        return 1.0
    beyond = (np.abs(known - known.mean()) >= abs(value)).sum()
    return float((beyond + 1) / (len(known) + 1))

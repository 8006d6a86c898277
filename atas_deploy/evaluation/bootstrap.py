"""Bootstrap over images: intervals of scores, and of the difference of two models.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: percentile intervals.

N rows, R replicates
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.evaluation.rows import FloatArray, Measure, Rows

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
        p: two-sided: twice the share of replicates on the rarer side of 0, at least 2 / (R + 1);
            1 if there is one row only.
    """

    a: float
    b: float
    value: float
    low: float
    high: float
    p: float


def draw_weights(rows: int, *, replicates: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each of N rows is drawn in each replicate: (R, N), each row summing to N."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(rows, np.full(rows, 1 / rows), size=replicates)


def bootstrap(
    rows: Rows, measure: Measure, *, replicates: int = 1000, seed: int = 0
) -> dict[str, Score]:
    """Scores with 95 % percentile intervals over images.

    Raises:
        InputError: there are no rows.
    """
    values, samples = _samples(rows, measure, replicates=replicates, seed=seed)
    if len(rows) == 1:
        return {name: Score(value, *_UNKNOWN[:2]) for name, value in values.items()}
    return {name: Score(values[name], *_interval(sample)) for name, sample in samples.items()}


def compare(
    a: Rows, b: Rows, measure: Measure, *, replicates: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Differences b - a with 95 % intervals: the same images are drawn for both.

    Raises:
        InputError: there are no rows, or they are of other images or other classes.
    """
    if a.names != b.names or a.widths != b.widths:
        raise InputError(
            "The two runs are of different images or classes; evaluate both on the same data."
        )
    first, of_a = _samples(a, measure, replicates=replicates, seed=seed)
    second, of_b = _samples(b, measure, replicates=replicates, seed=seed)
    found = {}
    for name in of_a:
        sample = of_b[name] - of_a[name]
        known = (*_interval(sample), _p_value(sample)) if len(a) > 1 else _UNKNOWN
        found[name] = Difference(first[name], second[name], second[name] - first[name], *known)
    return found


def _samples(
    rows: Rows, measure: Measure, *, replicates: int, seed: int
) -> tuple[dict[str, float], Mapping[str, FloatArray]]:
    """Scores on all rows, and on each replicate (R,)."""
    if not len(rows):
        raise InputError("There is nothing to measure: no image has a label that counts.")
    values = {name: float(value) for name, value in measure(rows.totals()).items()}
    weights = draw_weights(len(rows), replicates=replicates, seed=seed)
    blocks = [measure(sums) for sums in rows.replicates(weights)]
    return values, {name: np.concatenate([block[name] for block in blocks]) for name in values}


def _interval(sample: FloatArray) -> tuple[float, float]:
    known = sample[~np.isnan(sample)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _p_value(differences: FloatArray) -> float:
    known = differences[~np.isnan(differences)]
    rarer = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(known) + 1)))

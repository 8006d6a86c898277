"""How far features are from those that they should be, and how far they may be.

N features, C classes, D embedding width
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ParityError

Features = npt.NDArray[np.float32]
CLEAR_MARGIN = 0.02
"""A patch is clear where the cosines of its best and its second class differ by as much."""
REPORT_IT = "please report it with the model's name"

_GRAPHS = {"dense": "image encoder", "image": "image encoder", "text": "text encoder"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How far features of unit length may differ from PyTorch's.

    Attributes:
        cosine_mean: smallest mean over the cosines of a batch.
        cosine_p1: smallest 1st percentile of them.
        cosine_min: smallest cosine of any patch, image or text.
        agreement_clear: smallest share of equal classes among clear patches.
        max_abs: largest difference of any element; None = any.
    """

    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    agreement_clear: float
    max_abs: float | None = None


LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(
        cosine_mean=0.99999,
        cosine_p1=0.9999,
        cosine_min=0.9999,
        agreement_clear=1.0,
        max_abs=1e-4,
    ),
    "fp16": Limits(cosine_mean=0.9999, cosine_p1=0.999, cosine_min=0.99, agreement_clear=0.995),
    "bf16": Limits(cosine_mean=0.995, cosine_p1=0.98, cosine_min=0.9, agreement_clear=0.99),
}
"""Limits by the precision of the image encoder; docs/commands/export.md tells how they were set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One output of one graph on one batch.

    Attributes:
        output: dense, image or text.
        shape: of the input: (B, H, W, 3) or (N, L).
        max_abs: largest difference of any element.
        cosine_mean: mean cosine over patches, images or texts.
        cosine_p1: 1st percentile of these cosines.
        cosine_min: smallest of them.
        agreement: share whose best class is the same; None without a class list.
        agreement_clear: the same among those that are clear; None if none is.
        clear_share: share that is clear; None without a class list.
        not_finite: values that are NaN or infinite.
    """

    output: str
    shape: tuple[int, ...]
    max_abs: float
    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    agreement: float | None = None
    agreement_clear: float | None = None
    clear_share: float | None = None
    not_finite: int = 0


def limits_of(output: str, limits: Limits) -> Limits:
    """The limits for an output: the text encoder computes in float32 in every bundle."""
    return LIMITS["fp32"] if output == "text" else limits


def compare(
    output: str,
    shape: tuple[int, ...],
    got: Features,
    expected: Features,
    *,
    queries: Features | None = None,
) -> Comparison:
    """Measure how far features differ; NaN anywhere makes the cosines NaN.

    Args:
        output: dense, image or text.
        shape: of the input.
        got: (..., D) float32.
        expected: (..., D) float32, PyTorch's.
        queries: (C, D) float32, the classes whose agreement is measured; None = none.

    Raises:
        ParityError: the shapes differ.
    """
    if got.shape != expected.shape:
        raise ParityError(
            f"The output {output} for input {list(shape)} has shape {list(got.shape)}, expected "
            f"{list(expected.shape)}; the graph is wrong, {REPORT_IT}."
        )
    width = got.shape[-1]
    a, b = (features.reshape(-1, width).astype(np.float64) for features in (got, expected))
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = (a * b).sum(axis=1) / np.maximum(lengths, 1e-12)
        return Comparison(
            output=output,
            shape=shape,
            max_abs=float(np.abs(a - b).max()),
            cosine_mean=float(cosine.mean()),
            cosine_p1=float(np.percentile(cosine, 1)),
            cosine_min=float(cosine.min()),
            not_finite=int((~np.isfinite(a)).sum()),
            **({} if queries is None else _agreement(a, b, queries.astype(np.float64))),
        )


def _agreement(
    got: npt.NDArray[np.float64], expected: npt.NDArray[np.float64], queries: npt.NDArray[Any]
) -> dict[str, float | None]:
    """Shares of equal best classes: of all (N, D) features, and of the clear ones."""
    cosines_NC = expected @ queries.T
    second, best = np.partition(cosines_NC, -2, axis=1)[:, -2:].T
    equal = cosines_NC.argmax(axis=1) == (got @ queries.T).argmax(axis=1)
    clear = best - second >= CLEAR_MARGIN
    return {
        "agreement": float(equal.mean()),
        "agreement_clear": float(equal[clear].mean()) if clear.any() else None,
        "clear_share": float(clear.mean()),
    }


def check(comparison: Comparison, limits: Limits, *, stage: str, cure: str = REPORT_IT) -> None:
    """Refuse a comparison that exceeds the limits, or has values that are not finite.

    Args:
        comparison: what was measured.
        limits: what is allowed.
        stage: what was compared, as the error calls it.
        cure: what to do about a failure, the end of the sentence.

    Raises:
        ParityError: names stage, output, input shape, metric, value and limit.
    """
    problem = next(_problems(comparison, limits), None)
    if problem:
        shape = " x ".join(map(str, comparison.shape))
        raise ParityError(
            f"The {_GRAPHS[comparison.output]} is not what the PyTorch model computes ({stage}): "
            f"output {comparison.output} for input {shape} has {problem}; {cure}."
        )


def _problems(comparison: Comparison, limits: Limits) -> Iterator[str]:
    """Each exceeded limit in words; written as "not within", because a NaN must fail."""
    if comparison.not_finite:
        yield f"{comparison.not_finite} values that are NaN or infinite, limit 0"
    if limits.max_abs is not None and not comparison.max_abs <= limits.max_abs:
        yield f"the maximum difference {comparison.max_abs:.3g}, limit {limits.max_abs:g}"
    for name, words in _LEAST.items():
        value, limit = getattr(comparison, name), getattr(limits, name)
        if value is not None and not value >= limit:
            yield f"{words} {value:.6f}, limit {limit:g}"


_LEAST = {
    "cosine_min": "the smallest cosine",
    "cosine_p1": "the 1st percentile of cosines",
    "cosine_mean": "the mean cosine",
    "agreement_clear": "the agreement where the class is clear",
}


def report(stage: str, comparisons: Sequence[Comparison], limits: Limits) -> dict[str, Any]:
    """One stage of parity.json: the limits, the worst values and every comparison."""
    figures = worst(comparisons)
    return {
        "stage": stage,
        "limits": {output: asdict(limits_of(output, limits)) for output in figures},
        "worst": figures,
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }


def worst(comparisons: Sequence[Comparison]) -> dict[str, dict[str, Any]]:
    """The worst figures of each output: every field of `Comparison` but output and shape."""
    outputs = sorted({comparison.output for comparison in comparisons})
    return {o: _worst([c for c in comparisons if c.output == o]) for o in outputs}


def _worst(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    least = (*_LEAST, "agreement", "clear_share")
    figures: dict[str, Any] = {"max_abs": max(c.max_abs for c in comparisons)}
    for name in least:
        values = [v for c in comparisons if (v := getattr(c, name)) is not None]
        figures[name] = min(values, default=None)
    return figures | {"not_finite": sum(c.not_finite for c in comparisons)}

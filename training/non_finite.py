"""Stopping all processes of a run when a loss or the gradient of any is NaN or infinite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atas_deploy.core.errors import NonFiniteLossError
from atas_deploy.training.distributed import Group

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of one batch in one process.

    Attributes:
        losses: values by name.
        files: the batch's files.
    """

    losses: Mapping[str, float]
    files: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Finding:
    """A value that is not finite, and the files of its batches."""

    name: str
    value: float
    files: list[str]


def check_finite(
    batches: Sequence[BatchResult],
    gradient_norm: float,
    *,
    step: int,
    cure: str,
    group: Group,
) -> None:
    """Stop all processes unless all numbers of all of them are finite.

    Args:
        batches: this process's batches of the step.
        gradient_norm: norm of the gradient, the same in all processes.
        step: the step, from 1.
        cure: what to do next.
        group: all processes.

    Raises:
        NonFiniteLossError: on rank 0; names value, step and files.
        SystemExit: with code 1 on the other ranks, for rank 0 says why.
    """
    loss = _bad_loss(batches)
    if not group.any(loss is not None or not math.isfinite(gradient_norm)):
        return
    found = [finding for finding in group.objects(loss) if finding]
    if not found:  # every process adds to the gradient
        every = group.objects([file for batch in batches for file in batch.files])
        files = [file for part in every for file in part]
        found = [_Finding("the norm of the gradient", gradient_norm, files)]
    if group.rank > 0:
        raise SystemExit(1)
    files = [file for finding in found for file in finding.files]
    raise NonFiniteLossError(
        f"{found[0].name} became {found[0].value} at step {step}{_listed(files)}; {cure}."
    )


def _bad_loss(batches: Sequence[BatchResult]) -> _Finding | None:
    """The first loss that is not finite, with the files of all batches that have one."""
    bad = [
        (name, value, batch.files)
        for batch in batches
        for name, value in batch.losses.items()
        if not math.isfinite(value)
    ]
    if not bad:
        return None
    files = list(dict.fromkeys(file for _, _, files in bad for file in files))
    return _Finding(bad[0][0], bad[0][1], files)


def _listed(files: Sequence[str]) -> str:
    """The first files in brackets, or nothing if the method names none."""
    if not files:
        return ""
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f" (files {', '.join(files[:_SHOWN])}{more})"

"""The losses in other types, and in processes that share a batch."""

from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.training.losses import (
    FORMS,
    REDUCTIONS,
    Form,
    Reduction,
    cosine_loss,
    global_loss,
    local_to_local,
    pool_cells,
    similarities,
)

every_form = pytest.mark.parametrize("form", FORMS)
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random vectors of length 1."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).to(
        dtype
    )


# Types.


@pytest.fixture
def compute() -> list[Callable[[torch.dtype], Tensor]]:
    """Every function, of inputs of a type."""
    functions: list[Callable[[torch.dtype], Tensor]] = [
        lambda t: pool_cells(unit(4, 50, 64, dtype=t), unit(4, 64, seed=1, dtype=t), scale=20.0),
        lambda t: cosine_loss(unit(40, 64, dtype=t), unit(40, 64, seed=1, dtype=t)),
        lambda t: similarities(unit(2, 40, 64, dtype=t)),
    ]
    for form in get_args(Form):
        one = partial(global_loss, form=form, scale=100.0)
        functions.append(
            lambda t, one=one: one(unit(40, 64, dtype=t), unit(40, 64, seed=1, dtype=t))
        )
    for reduction in get_args(Reduction):
        one = partial(local_to_local, reduction=reduction)
        functions.append(
            lambda t, one=one: one(unit(2, 40, 64, dtype=t), unit(2, 40, 64, seed=1, dtype=t))
        )
    return functions


def test_autocast_rounds_nothing(compute: list[Callable[[torch.dtype], Tensor]]) -> None:
    """Under bfloat16 autocast everything is what it is without, in float32."""
    for function in compute:
        with torch.autocast("cpu", torch.bfloat16):
            got = function(torch.float32)
        assert got.dtype == torch.float32
        assert torch.equal(got, function(torch.float32))


def test_features_in_bfloat16_give_float32(compute: list[Callable[[torch.dtype], Tensor]]) -> None:
    """Only the inputs are rounded; float32 gives what float64 gives, nearly."""
    for function in compute:
        assert function(torch.bfloat16).dtype == torch.float32
        torch.testing.assert_close(
            function(torch.float32).double(), function(torch.float64), rtol=1e-4, atol=1e-5
        )


# Processes that share a batch.

HALVES = (slice(0, 3), slice(3, 8))  # uneven: broken files are left out of a process's batch


@every_form
def test_global_losses_of_processes_average_to_the_whole(form: Form) -> None:
    """Each with all keys and the mean count: the mean of losses and gradients is that of one."""
    weight, inputs, keys = unit(5, 5), unit(8, 5, seed=1), unit(8, 5, seed=2)

    def loss(w: Tensor, rows: slice, count: float | None) -> Tensor:
        x = F.normalize(inputs[rows] @ w, dim=-1)
        return global_loss(x, keys, form=form, scale=10.0, first=rows.start, count=count)

    whole = slice(0, 8)
    parts = [loss(weight, rows, 4.0) for rows in HALVES]
    torch.testing.assert_close(torch.stack(parts).mean(), loss(weight, whole, None))
    slopes = [torch.func.grad(lambda w, r=rows: loss(w, r, 4.0))(weight) for rows in HALVES]
    torch.testing.assert_close(
        torch.stack(slopes).mean(dim=0), torch.func.grad(lambda w: loss(w, whole, None))(weight)
    )


@every_reduction
def test_local_losses_of_processes_average_to_the_whole(reduction: Reduction) -> None:
    """The same of mosaics."""
    p, q = unit(8, 4, 5), unit(8, 4, 5, seed=1)
    parts = [local_to_local(p[h], q[h], reduction=reduction, count=4.0) for h in HALVES]
    whole = local_to_local(p, q, reduction=reduction)
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_cosine_losses_of_processes_average_to_the_whole() -> None:
    """The same of regions, where a process may have none."""
    x, c = unit(8, 5), unit(8, 5, seed=1)
    for halves in (HALVES, (slice(0, 8), slice(8, 8))):
        parts = [cosine_loss(x[h], c[h], count=4.0) for h in halves]
        torch.testing.assert_close(torch.stack(parts).mean(), cosine_loss(x, c))


def test_fewer_rows_than_processes_average_to_the_whole() -> None:
    """One region among four processes, a mean of a quarter each."""
    x, c = unit(1, 5), unit(1, 5, seed=1)
    parts = [cosine_loss(x[h], c[h], count=0.25) for h in (slice(0, 1), *[slice(1, 1)] * 3)]
    torch.testing.assert_close(torch.stack(parts).mean(), cosine_loss(x, c))


def test_twins_are_no_negatives() -> None:
    """Infonce is that of each row with the other keys; cosine and KL need no such care."""
    x, c, twins = unit(3, 6), unit(8, 6, seed=1), torch.zeros(3, 8, dtype=torch.bool)
    twins[0, 4] = twins[0, 7] = twins[2, 2] = True
    each = []
    for j in range(3):
        kept = [k for k in range(8) if not twins[j, k]]
        one = partial(global_loss, x[j : j + 1], c[kept], form="infonce", scale=2.0)
        each.append(one(first=kept.index(2 + j)))
    loss = partial(global_loss, x, c, scale=2.0, first=2)
    torch.testing.assert_close(loss(form="infonce", twins=twins), torch.stack(each).mean())
    assert float(loss(form="infonce") - torch.stack(each).mean()) > 1e-3
    for form in ("cosine", "kl"):
        assert torch.equal(loss(form=form, twins=twins), loss(form=form))

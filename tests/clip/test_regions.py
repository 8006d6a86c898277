"""The differentiable region embeddings against those of the runtime."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.clip import regions
from atas_deploy.core.regions import pool_boxes, pool_masks

SIZE = (45, 80)


def pictures(seed: int) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Features (B, h, w, D), boxes and masks of three pictures, the second without any."""
    torch.manual_seed(seed)
    dense, counts = torch.randn(3, 4, 7, 5, dtype=torch.float64), (20, 0, 30)
    corners = [torch.rand(count, 4) * 120 - 20 for count in counts]  # of negative size, too
    masks = [torch.rand(count, *SIZE) < torch.rand(count, 1, 1) ** 4 for count in counts]
    return dense, corners, masks


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), double=st.booleans())
def test_embeddings_equal_those_of_the_runtime(seed: int, double: bool) -> None:
    """Boxes and masks of several pictures, in either float type; some masks reach no cell."""
    dense, boxes, masks = pictures(seed)
    dense, limit = (dense, 1e-12) if double else (dense.float(), 1e-5)
    found = regions.pool_boxes(dense, boxes, size=SIZE)
    expected = [
        pool_boxes(d.numpy(), b.numpy(), size=SIZE) for d, b in zip(dense, boxes, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), np.concatenate(expected), rtol=0, atol=limit)
    found = regions.pool_masks(dense, masks)
    expected = [pool_masks(d.numpy(), m.numpy()) for d, m in zip(dense, masks, strict=True)]
    np.testing.assert_allclose(found.numpy(), np.concatenate(expected), rtol=0, atol=limit)


def test_masks_that_are_small_or_empty_equal_those_of_the_runtime() -> None:
    """Single pixels, which mostly reach no cell, and no pixel at all."""
    dense, _, _ = pictures(0)
    masks = torch.zeros(30, *SIZE, dtype=torch.bool)
    masks.view(30, -1)[torch.arange(29), torch.randint(45 * 80, (29,))] = True
    found = regions.pool_masks(dense[:1], [masks])
    np.testing.assert_allclose(found.numpy(), pool_masks(dense[0].numpy(), masks.numpy()), 1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, "autocast"])
def test_half_precision_costs_only_that_of_the_features(dtype: torch.dtype | str) -> None:
    """Boxes and masks are not rounded to the features' type, nor are the sums."""
    dense, boxes, masks = pictures(2)
    auto = dtype == "autocast"
    dense = dense.float() if isinstance(dtype, str) else dense.to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=auto):
        found = regions.pool_boxes(dense, boxes, size=SIZE), regions.pool_masks(dense, masks)
    exact = dense.double()
    expected = regions.pool_boxes(exact, boxes, size=SIZE), regions.pool_masks(exact, masks)
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == dense.dtype
        limit = 1e-5 if auto else torch.finfo(got.dtype).eps
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=limit)


def test_embeddings_are_differentiable() -> None:
    """Gradients by backward passes equal finite differences."""
    dense, boxes, masks = pictures(1)
    dense.requires_grad_()
    some, few = [b[:3] for b in boxes], [m[:3] for m in masks]
    assert torch.autograd.gradcheck(lambda d: regions.pool_boxes(d, some, size=SIZE), dense)
    assert torch.autograd.gradcheck(lambda d: regions.pool_masks(d, few), dense)

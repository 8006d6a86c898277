"""PAMR against the paper's definition, written with PyTorch in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.core.masks import refined_label_map
from atas_deploy.core.refine import affinity, pamr


def neighbours(maps: torch.Tensor, dilations: tuple[int, ...], *, centre: bool) -> torch.Tensor:
    """(C, H, W) to (C, K, H, W): what lies at each distance and direction, edges replicated."""
    height, width = maps.shape[-2:]
    found = []
    for d in dilations:
        padded = F.pad(maps[None], [d] * 4, mode="replicate")[0]
        for y in (-1, 0, 1):
            for x in (-1, 0, 1):
                if centre or (y, x) != (0, 0):
                    top, left = d + d * y, d + d * x
                    found.append(padded[:, top : top + height, left : left + width])
    return torch.stack(found, 1)


def expected_pamr(
    image: np.ndarray, values: np.ndarray, dilations: tuple[int, ...], iterations: int
) -> np.ndarray:
    """Section 3.3 of the paper: affinities from colours, then local averages."""
    colours = torch.tensor(image).permute(2, 0, 1).double() / 255
    deviation = neighbours(colours, dilations, centre=True).std(1, keepdim=True)
    difference = (neighbours(colours, dilations, centre=False) - colours[:, None]).abs()
    weights = (-difference / (1e-8 + 0.1 * deviation)).mean(0).softmax(0)
    maps = torch.tensor(values)[None].double()
    for _ in range(iterations):
        maps = (neighbours(maps, dilations, centre=False)[0] * weights).sum(0)[None]
    return maps[0].numpy()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    dilations=st.sampled_from([(1,), (1, 2, 4), (8, 16)]),
    iterations=st.integers(0, 4),
)
def test_pamr_equals_the_definition(
    seed: int, size: tuple[int, int], dilations: tuple[int, ...], iterations: int
) -> None:
    """Any size from one pixel on, also where the neighbours lie outside."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    values = rng.normal(size=size).astype(np.float32)
    weights = affinity(image, dilations=dilations)
    result = pamr(values, weights, dilations=dilations, iterations=iterations)
    expected = expected_pamr(image, values, dilations, iterations)
    np.testing.assert_allclose(result, expected, atol=2e-5)


def test_flat_pictures_have_even_weights() -> None:
    """No colour differs: every neighbour weighs the same."""
    weights = affinity(np.full((5, 6, 3), 77, np.uint8), dilations=(1, 2))
    np.testing.assert_allclose(weights, 1 / 16, rtol=1e-6)


@pytest.mark.parametrize("threshold", [None, 0.4])
def test_refined_label_map_is_pamr_of_every_query(threshold: float | None) -> None:
    """Upsample, refine, upsample, compare: written out for all queries at once."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64, 3), np.uint8)
    logits = 3 * rng.normal(size=(3, 4, 5)).astype(np.float32)
    result = refined_label_map(
        logits,
        np.eye(5, dtype=np.float32),
        np.arange(5),
        image=image,
        size=(70, 90),
        threshold=threshold,
    )
    up = F.interpolate(torch.tensor(logits).permute(2, 0, 1)[None], (48, 64), mode="bilinear")[0]
    refined = np.stack([expected_pamr(image, q, (8, 16), 10) for q in up.numpy()])
    final = F.interpolate(torch.tensor(refined)[None], (70, 90), mode="bilinear")[0]
    top = final.sort(0).values
    p, labels = final.softmax(0).max(0)
    if threshold is not None:
        labels = torch.where(p < threshold, 0, labels)
    clear = (top[-1] - top[-2] > 1e-3) & ((p - (threshold or 0)).abs() > 1e-3)
    assert clear.float().mean() > 0.9
    np.testing.assert_array_equal(result.labels[clear.numpy()], labels[clear].numpy())
    np.testing.assert_allclose(result.probability, p.numpy(), atol=1e-3)

"""The first phase: made-up features and word dropout."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.training.tiny.text_phase import FeatureMaker, batch_indices, drop_words


def test_made_features_are_of_their_class() -> None:
    """The head believes in the class asked for, and the norm is that of the real feature."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 50, 12, generator=generator)
    features = features / features.norm(dim=-1, keepdim=True) * 9
    weight = torch.randn(7, 12, generator=generator)
    maker = FeatureMaker(features, weight, torch.zeros(7))
    made, beliefs = maker.make(list(range(7)) * 10, np.random.default_rng(0))
    right = beliefs.argmax(dim=1) == torch.arange(7).repeat(10)
    assert right.float().mean() > 0.8
    torch.testing.assert_close(made.norm(dim=1), torch.full((70,), 9.0))


@settings(deadline=None)
@given(
    count=st.integers(2, 40),
    size=st.integers(1, 10),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_an_epoch_uses_each_item_at_most_once(count: int, size: int, seed: int, epoch: int) -> None:
    """The steps of an epoch are disjoint full batches."""
    size = min(size, count)
    steps = range(epoch * (count // size), (epoch + 1) * (count // size))
    used = [i for s in steps for i in batch_indices(s, count=count, batch_size=size, seed=seed)]
    assert len(used) == len(set(used)) == (count // size) * size


@given(seed=st.integers(0, 50), share=st.floats(0, 1))
def test_dropping_words_keeps_ends_and_order(seed: int, share: float) -> None:
    """Start and end tokens stay; what stays in between keeps its order, zeros are behind it."""
    tokens = torch.tensor([[90, 1, 2, 3, 4, 99, 0, 0], [90, 5, 99, 0, 0, 0, 0, 0]])
    for row, before in zip(
        drop_words(tokens, np.random.default_rng(seed), share=share).tolist(),
        tokens.tolist(),
        strict=True,
    ):
        kept = [t for t in row if t]
        assert (kept[0], kept[-1]) == (90, 99)
        assert row == kept + [0] * (8 - len(kept))
        assert kept == [t for t in before if t in set(kept) and t]

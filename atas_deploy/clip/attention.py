"""Attention in pieces, so that read-outs can put them together in other ways.

B batch, T tokens, K heads, E width of a head, V width of a token (K * E = V, as a rule)
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Heads(NamedTuple):
    """Queries, keys and values of one block, each (B, K, T, E)."""

    q: Tensor
    k: Tensor
    v: Tensor


class Rotary(NamedTuple):
    """Rotary position embedding of N patches: cosines and sines of their angles.

    Each is (N, E), or (B, 1, N, E) where the pictures of a batch, or their windows, differ.
    """

    cos: Tensor
    sin: Tensor


class Block(Protocol):
    """A transformer block: tokens + output(attention), then + MLP.

    Every family of towers has its own, see `atas_deploy.clip.blocks`.

    Attributes:
        block: the tower's module.
    """

    block: Any

    def project(self, tokens: Tensor, rotary: Rotary | None = None) -> Heads:
        """Normalise (B, T, V) tokens and project them; rotate q and k of the last N tokens."""

    def output(self, context: Tensor) -> Tensor:
        """Mixed values (B, K, T, E) to the update of the tokens, (B, T, V)."""

    def finish(self, tokens: Tensor, update: Tensor) -> Tensor:
        """The residual sum, then the MLP with its own: (B, T, V), (B, T, V) -> (B, T, V)."""


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Mix values by softmax(q k^T / sqrt(E) + mask).

    Args:
        q: (B, K, Q, E) queries, any number Q of them.
        k: (B, K, T, E) keys.
        v: (B, K, T, E) values.
        mask: (Q, T) added to the logits.

    Returns:
        (B, K, Q, E) context.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def run_block(
    block: Block, tokens: Tensor, *, mask: Tensor | None = None, rotary: Rotary | None = None
) -> Tensor:
    """The block as it was trained: (B, T, V) -> (B, T, V)."""
    q, k, v = block.project(tokens, rotary)
    return block.finish(tokens, block.output(attend(q, k, v, mask=mask)))


def split_heads(flat: Tensor, heads: int) -> Tensor:
    """(B, T, K * E) -> (B, K, T, E)."""
    return flat.reshape(*flat.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(context: Tensor) -> Tensor:
    """(B, K, T, E) -> (B, T, K * E)."""
    return context.transpose(1, 2).flatten(2)


def rotate(x: Tensor, rotary: Rotary | None) -> Tensor:
    """Rotate the last N of (B, K, T, E) queries or keys, pairs of neighbouring channels at a time.

    Tokens before them, such as the class token, have no place and stay.
    """
    if rotary is None:
        return x
    prefix = x.shape[2] - rotary.cos.shape[-2]
    patches = x[:, :, prefix:]
    turned = torch.stack([-patches[..., 1::2], patches[..., ::2]], dim=-1).flatten(-2)
    patches = patches * rotary.cos + turned * rotary.sin
    return torch.cat([x[:, :, :prefix], patches], dim=2) if prefix else patches

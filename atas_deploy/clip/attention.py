"""The pieces of an open_clip attention block, so that read-outs can rearrange them.

Put together in the usual order (`run_block`) they compute what open_clip's block computes.

    B batch, T tokens, K heads, E width of a head, D = K * E width of a token
"""

from typing import NamedTuple

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional as F


class Heads(NamedTuple):
    """Queries, keys and values of one block, each (B, K, T, E)."""

    q: Tensor
    k: Tensor
    v: Tensor


def project(block: ResidualAttentionBlock, tokens: Tensor) -> Heads:
    """Normalise (B, T, D) tokens and project them to queries, keys and values."""
    attn = block.attn
    qkv = F.linear(block.ln_1(tokens), attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    shape = (*tokens.shape[:2], attn.num_heads, attn.head_dim)
    return Heads(*(part.reshape(shape).transpose(1, 2) for part in qkv))


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


def merge_heads(context: Tensor) -> Tensor:
    """(B, K, T, E) -> (B, T, D)."""
    return context.transpose(1, 2).flatten(2)


def finish(block: ResidualAttentionBlock, tokens: Tensor, context: Tensor) -> Tensor:
    """Everything behind the attention: output projection, residual, MLP with its residual.

    Args:
        block: the block.
        tokens: (B, T, D) the block's input, or some of its tokens.
        context: (B, K, T, E) mixed values of the same tokens.

    Returns:
        (B, T, D) the block's output for these tokens.
    """
    tokens = tokens + block.ls_1(block.attn.out_proj(merge_heads(context)))
    output: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return output


def run_block(
    block: ResidualAttentionBlock, tokens: Tensor, *, mask: Tensor | None = None
) -> Tensor:
    """The ordinary block: (B, T, D) -> (B, T, D)."""
    q, k, v = project(block, tokens)
    return finish(block, tokens, attend(q, k, v, mask=mask))

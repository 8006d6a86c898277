"""Ways to read dense features from the last block of a CLIP image tower.

CLIP trains the class token only, so the last block's attention gathers global content into every
token. A read-out replaces that attention for the patch tokens and leaves the class token as it is.
To add one: write the function, enter it in `READOUTS`.

    B batch, N patches, D width; tokens are (B, 1 + N, D), class token first
"""

from collections.abc import Callable

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from atas_deploy.clip.attention import Heads, attend, finish, project, run_block

Readout = Callable[[ResidualAttentionBlock, Tensor], Tensor]
"""The last block: (block, tokens (B, 1 + N, D)) -> tokens (B, 1 + N, D)."""


def vanilla(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """softmax(q k^T) v: the block as it was trained."""
    return run_block(block, tokens)


def maskclip(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """v: every patch keeps its own value; residual and MLP stay.

    Source: Zhou et al., "Extract Free Dense Labels from CLIP" (MaskCLIP), ECCV 2022; the dense path
    of Wu et al., "CLIPSelf", ICLR 2024.
    """
    heads = project(block, tokens)
    return finish(block, tokens, _behind_class_token(heads, heads.v[:, :, 1:]))


def sclip(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """(softmax(q q^T) + softmax(k k^T)) v over all tokens; residual and MLP stay.

    Source: Wang et al., "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024, correlative self-attention.
    """
    heads = project(block, tokens)
    q, k, v = heads
    patches = attend(q[:, :, 1:], q, v) + attend(k[:, :, 1:], k, v)
    return finish(block, tokens, _behind_class_token(heads, patches))


READOUTS: dict[str, Readout] = {"vanilla": vanilla, "maskclip": maskclip, "sclip": sclip}


def _behind_class_token(heads: Heads, patches: Tensor) -> Tensor:
    """Put the class token's ordinary context, one query only, before that of the patches."""
    class_token = attend(heads.q[:, :, :1], heads.k, heads.v)
    return torch.cat([class_token, patches], dim=2)

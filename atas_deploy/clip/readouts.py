"""Ways to read dense features from the last block of a CLIP image tower.

CLIP trains one embedding an image, so the last block's attention gathers global content into every
token. A read-out replaces that attention for the patches, and may drop what follows it in the block
as well. To add one: write the function, enter it in `READOUTS`.

    B batch, N = h * w patches, T tokens (those before the patches, such as the class token, first),
    K heads, E width of a head, V width of a token
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from atas_deploy.clip.attention import Block, Heads, attend

GAUSSIAN_STD = 5.0  # NACLIP's, in patches


class Last(NamedTuple):
    """What a read-out works on.

    Attributes:
        block: the last block.
        tokens: (B, T, V) its input.
        heads: its queries, keys and values, each (B, K, T, E).
        grid: (h, w).
        prefix: number of tokens before the patches.
    """

    block: Block
    tokens: Tensor
    heads: Heads
    grid: tuple[int, int]
    prefix: int

    def trained(self, tokens: slice) -> Tensor:
        """The block as it was trained, for some of its tokens: softmax(q k^T) v and what follows.

        Returns:
            (B, tokens chosen, V).
        """
        q, k, v = self.heads
        update = self.block.output(attend(q[:, :, tokens], k, v))
        return self.block.finish(self.tokens[:, tokens], update)


Readout = Callable[[Last], Tensor]
"""The last block for the patches: -> (B, N, V)."""


def vanilla(last: Last) -> Tensor:
    """softmax(q k^T) v: the block as it was trained."""
    return last.trained(slice(last.prefix, None))


def maskclip(last: Last) -> Tensor:
    """v: every patch keeps its own value; residual and MLP stay.

    Source: Zhou et al., "Extract Free Dense Labels from CLIP" (MaskCLIP), ECCV 2022; the dense path
    of Wu et al., "CLIPSelf", ICLR 2024.
    """
    return _finish(last, last.heads.v[:, :, last.prefix :])


def sclip(last: Last) -> Tensor:
    """(softmax(q q^T) + softmax(k k^T)) v over all tokens; residual and MLP stay.

    Source: Wang et al., "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024, correlative self-attention.
    """
    (q, k, v), p = last.heads, last.prefix
    return _finish(last, attend(q[:, :, p:], q, v) + attend(k[:, :, p:], k, v))


def clearclip(last: Last) -> Tensor:
    """softmax(q q^T) v over all tokens; no residual, no MLP.

    Source: Lan et al., "ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language
    Inference", ECCV 2024.
    """
    (q, _, v), p = last.heads, last.prefix
    return last.block.output(attend(q[:, :, p:], q, v))


def naclip(last: Last) -> Tensor:
    """softmax(k k^T + Gaussian of the distance on the grid) v over all tokens; no residual, no MLP.

    Source: Hajimiri et al., "Pay Attention to Your Neighbours: Training-Free Open-Vocabulary
    Semantic Segmentation" (NACLIP), WACV 2025.
    """
    (_, k, v), p = last.heads, last.prefix
    return last.block.output(attend(k[:, :, p:], k, v, mask=neighbourhood(k, last.grid, p)))


READOUTS: dict[str, Readout] = {
    "vanilla": vanilla,
    "maskclip": maskclip,
    "sclip": sclip,
    "clearclip": clearclip,
    "naclip": naclip,
}


def neighbourhood(like: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """exp(-d^2 / (2 std^2)) for the distance d of two patches, 0 for the tokens before them.

    Args:
        like: a tensor of the dtype and device wanted.
        grid: (h, w).
        prefix: number of tokens before the patches.

    Returns:
        (N, T), in (0, 1] for patches; added to the logits of attention.
    """
    rows, columns = (_gaussian(like, length) for length in grid)
    patches = (rows[:, None, :, None] * columns[None, :, None, :]).flatten(2).flatten(0, 1)
    return torch.cat([patches.new_zeros(patches.shape[0], prefix), patches], dim=1)


def _gaussian(like: Tensor, length: int) -> Tensor:
    """(length, length) factors of one axis of the Gaussian."""
    place = torch.arange(length, dtype=like.dtype, device=like.device)
    return torch.exp(-((place[:, None] - place) ** 2) / (2 * GAUSSIAN_STD**2))


def _finish(last: Last, context: Tensor) -> Tensor:
    """Output projection, residual and MLP for the patches."""
    return last.block.finish(last.tokens[:, last.prefix :], last.block.output(context))

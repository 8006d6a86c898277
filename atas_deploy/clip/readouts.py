"""Ways to read dense features from the last block of a CLIP image tower.

CLIP trains one embedding an image, so the last block's attention gathers global content into every
token. A read-out replaces that attention for the patches, and may drop what follows it in the block
as well. To add one: write the function, enter it in `READOUTS`.

    B batch, N = h * w patches, P tokens before the patches (the class token), T = P + N,
    K heads, E width of a head
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from atas_deploy.clip.attention import Heads, attend
from atas_deploy.clip.positions import Grid

GAUSSIAN_STD = 5.0  # NACLIP's, in patches


class Layout(NamedTuple):
    """Where the patches are among the tokens.

    Attributes:
        prefix: P.
        grid: (h, w).
    """

    prefix: int
    grid: Grid

    def patches(self, x: Tensor) -> Tensor:
        """(B, K, T, E) -> (B, K, N, E)."""
        return x[:, :, self.prefix :]


Attention = Callable[[Heads, Layout], Tensor]
"""q, k, v of all tokens, each (B, K, T, E) -> mixed values of the patches, (B, K, N, E)."""


def vanilla(heads: Heads, layout: Layout) -> Tensor:
    """softmax(q k^T) v: the block as it was trained."""
    q, k, v = heads
    return attend(layout.patches(q), k, v)


def maskclip(heads: Heads, layout: Layout) -> Tensor:
    """v: every patch keeps its own value.

    Source: Zhou et al., "Extract Free Dense Labels from CLIP" (MaskCLIP), ECCV 2022; the dense path
    of Wu et al., "CLIPSelf", ICLR 2024.
    """
    return layout.patches(heads.v)


def sclip(heads: Heads, layout: Layout) -> Tensor:
    """(softmax(q q^T) + softmax(k k^T)) v over all tokens.

    Source: Wang et al., "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024, correlative self-attention.
    """
    q, k, v = heads
    return attend(layout.patches(q), q, v) + attend(layout.patches(k), k, v)


def clearclip(heads: Heads, layout: Layout) -> Tensor:
    """softmax(q q^T) v over all tokens.

    Source: Lan et al., "ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language
    Inference", ECCV 2024.
    """
    q, _, v = heads
    return attend(layout.patches(q), q, v)


def naclip(heads: Heads, layout: Layout) -> Tensor:
    """softmax(k k^T + Gaussian of the distance on the grid) v over all tokens.

    Source: Hajimiri et al., "Pay Attention to Your Neighbours: Training-Free Open-Vocabulary
    Semantic Segmentation" (NACLIP), WACV 2025.
    """
    _, k, v = heads
    return attend(layout.patches(k), k, v, mask=neighbourhood(k, layout))


class Readout(NamedTuple):
    """How the last block is read.

    Attributes:
        attention: what it mixes for the patches.
        reduced: whether residual and MLP are dropped: only the output projection follows.
    """

    attention: Attention
    reduced: bool = False


READOUTS: dict[str, Readout] = {
    "vanilla": Readout(vanilla),
    "maskclip": Readout(maskclip),
    "sclip": Readout(sclip),
    "clearclip": Readout(clearclip, reduced=True),
    "naclip": Readout(naclip, reduced=True),
}


def neighbourhood(like: Tensor, layout: Layout) -> Tensor:
    """exp(-d^2 / (2 std^2)) for the distance d of two patches, 0 for the tokens before them.

    Args:
        like: a tensor of the dtype and device wanted.
        layout: of the tokens.

    Returns:
        (N, T), in [0, 1]; added to the logits of attention.
    """
    rows, columns = (_gaussian(like, length) for length in layout.grid)
    patches = (rows[:, None, :, None] * columns[None, :, None, :]).flatten(2).flatten(0, 1)
    return torch.cat([patches.new_zeros(patches.shape[0], layout.prefix), patches], dim=1)


def _gaussian(like: Tensor, length: int) -> Tensor:
    """(length, length) factors of one axis of the Gaussian."""
    place = torch.arange(length, dtype=like.dtype, device=like.device)
    return torch.exp(-((place[:, None] - place) ** 2) / (2 * GAUSSIAN_STD**2))

"""CLIP's text tower for token rows of any length up to the context.

N texts, L tokens, V width of the tower, D embedding width
"""

from typing import Any, TypeAlias

import torch
from open_clip import CLIP, CustomTextCLIP
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.attention import run_block
from atas_deploy.core.errors import ConfigError

OpenClip: TypeAlias = CLIP | CustomTextCLIP


class TextEncoder(nn.Module):
    """The text tower of an open_clip model; it shares the model's weights.

    The tower is causal and reads the end token, so padding behind that token changes nothing and
    may be left away.

    Args:
        model: an open_clip `CLIP` (text tower spread over the model) or `CustomTextCLIP`.

    Raises:
        ConfigError: the text tower is not supported.
    """

    def __init__(self, model: OpenClip) -> None:
        super().__init__()
        tower: Any = getattr(model, "text", model)
        check_text_tower(tower)
        self.token_embedding: nn.Embedding = tower.token_embedding
        self.positional_embedding: nn.Parameter = tower.positional_embedding
        self.blocks: nn.ModuleList = tower.transformer.resblocks
        self.ln_final: nn.Module = tower.ln_final
        self.projection: nn.Parameter | nn.Linear | None = tower.text_projection
        self.context_length = self.positional_embedding.shape[0]
        mask = torch.full((self.context_length, self.context_length), float("-inf")).triu_(1)
        self.causal_mask: Tensor
        self.register_buffer("causal_mask", mask.to(self.positional_embedding), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode (N, L) int64 tokens to (N, D), L2-normalised.

        A row's end token is its largest id; L is at most the context length.
        """
        length = tokens.shape[1]
        x_NLV = self.token_embedding(tokens) + self.positional_embedding[:length]
        mask = self.causal_mask[:length, :length]
        for block in self.blocks:
            assert isinstance(block, ResidualAttentionBlock)
            x_NLV = run_block(block, x_NLV, mask=mask)
        rows = torch.arange(tokens.shape[0], device=tokens.device)
        x_NV = self.ln_final(x_NLV[rows, tokens.argmax(dim=-1)])
        return F.normalize(self._project(x_NV), dim=-1)

    def _project(self, features: Tensor) -> Tensor:
        """(N, V) -> (N, D)."""
        if self.projection is None:
            return features
        if isinstance(self.projection, nn.Parameter):
            return features @ self.projection
        projected: Tensor = self.projection(features)
        return projected


def check_text_tower(tower: nn.Module) -> None:
    """Refuse text towers that are not CLIP's.

    Raises:
        ConfigError: the tower is not a causal transformer of plain blocks that reads the end token.
    """
    problem = _obstacle(tower)
    if problem:
        raise ConfigError(
            f"This text tower is not supported: {problem}; use a model with CLIP's own text "
            "tower, such as ViT-B-16."
        )


def _obstacle(tower: nn.Module) -> str | None:
    """What keeps a text tower from being used, or None."""
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if blocks is None:
        return f"it is a {type(tower).__name__}"
    pooling = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    if pooling != "argmax":
        return f"its pooling is {pooling!r}"
    if getattr(tower, "cls_emb", None) is not None:
        return "it has a class token (CoCa)"
    if getattr(tower, "attn_mask", None) is None:
        return "it is not causal"
    if not all(isinstance(b, ResidualAttentionBlock) for b in blocks):
        return "its attention blocks are customised"
    return None

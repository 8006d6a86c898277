"""The text towers of open_clip's own: CLIP's causal one and SigLIP's, which sees the whole row.

N texts, L tokens, V width of the tower, D embedding width
"""

from typing import Any, TypeAlias

import torch
from open_clip import CLIP, CustomTextCLIP
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.attention import run_block
from atas_deploy.clip.blocks import as_block
from atas_deploy.core.errors import ConfigError

OpenClip: TypeAlias = CLIP | CustomTextCLIP
POOLINGS = ("argmax", "eos", "first", "last")


class TextEncoder(nn.Module):
    """The text tower of an open_clip model; it shares the model's weights.

    Attributes:
        context_length: longest row.
        full_rows: rows must have that length. A causal tower that reads the end token sees nothing
            behind it, so its rows may end there; one that is not causal, or that reads the last
            token, reads the padding too.

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
        self._blocks = [block for block in map(as_block, self.blocks) if block is not None]
        self.ln_final: nn.Module = tower.ln_final
        self.projection: nn.Parameter | nn.Linear | None = tower.text_projection
        self.context_length = self.positional_embedding.shape[0]
        self.pooling = str(_setting(tower, "pool_type"))
        self.end_id = int(_setting(tower, "eos_id"))
        causal = tower.attn_mask is not None
        self.full_rows = not causal or self.pooling == "last"
        mask = torch.full((self.context_length, self.context_length), float("-inf")).triu_(1)
        self.causal_mask: Tensor | None
        table = mask.to(self.positional_embedding) if causal else None
        self.register_buffer("causal_mask", table, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode (N, L) int64 tokens to (N, D), L2-normalised.

        L is at most the context length, and equal to it if `full_rows`.
        """
        length = tokens.shape[1]
        x_NLV = self.token_embedding(tokens) + self.positional_embedding[:length]
        mask = None if self.causal_mask is None else self.causal_mask[:length, :length]
        for block in self._blocks:
            x_NLV = run_block(block, x_NLV, mask=mask)
        return F.normalize(self._project(self.ln_final(self._pool(x_NLV, tokens))), dim=-1)

    def _pool(self, features: Tensor, tokens: Tensor) -> Tensor:
        """(N, L, V) -> (N, V): the token of the largest id, the end, first or last one."""
        if self.pooling in ("first", "last"):
            return features[:, 0 if self.pooling == "first" else -1]
        marks = (tokens == self.end_id).int() if self.pooling == "eos" else tokens
        return features[torch.arange(tokens.shape[0], device=tokens.device), marks.argmax(dim=-1)]

    def _project(self, features: Tensor) -> Tensor:
        """(N, V) -> (N, D)."""
        if self.projection is None:
            return features
        if isinstance(self.projection, nn.Parameter):
            return features @ self.projection
        projected: Tensor = self.projection(features)
        return projected


def check_text_tower(tower: nn.Module) -> None:
    """Refuse text towers that are not open_clip's own.

    Raises:
        ConfigError: the tower is not a transformer of plain blocks that reads one of its tokens.
    """
    problem = _obstacle(tower)
    if problem:
        raise ConfigError(
            f"This text tower is not supported: {problem}; use a model with CLIP's or "
            "SigLIP's own text tower, such as ViT-B-16/openai."
        )


def _obstacle(tower: nn.Module) -> str | None:
    """What keeps a text tower from being used, or None."""
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if blocks is None:
        return f"it is a {type(tower).__name__}"
    pooling = _setting(tower, "pool_type")
    if pooling not in POOLINGS:
        return f"its pooling is {pooling!r}"
    if getattr(tower, "cls_emb", None) is not None:
        return "it has a class token (CoCa)"
    if getattr(tower, "use_pad_mask", False):
        return "it hides the padding from its attention"
    if None in map(as_block, blocks):
        return "its attention blocks are customised"
    return None


def _setting(tower: nn.Module, name: str) -> Any:
    """A setting of a text tower, which `CLIP` keeps under another name."""
    return getattr(tower, f"text_{name}", getattr(tower, name, None))

"""The blocks of open_clip's image and text towers behind one interface, `attention.Block`.

Each holds a module of the tower, not a copy of it.

    B batch, T tokens, K heads, E width of a head, V width of a token
"""

from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from timm.layers.attention import Attention
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.attention import Block, Heads, Rotary, merge_heads, rotate, split_heads


class NativeBlock:
    """A block of open_clip's own transformer: OpenAI's, LAION's, and all text towers."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        self.block = block

    def project(self, tokens: Tensor, rotary: Rotary | None = None) -> Heads:
        """(B, T, V) -> q, k, v; these towers know no rotary embedding."""
        attn = self.block.attn
        qkv = F.linear(self.block.ln_1(tokens), attn.in_proj_weight, attn.in_proj_bias)
        return Heads(*(split_heads(part, attn.num_heads) for part in qkv.chunk(3, dim=-1)))

    def output(self, context: Tensor) -> Tensor:
        """(B, K, T, E) -> (B, T, V)."""
        update: Tensor = self.block.ls_1(self.block.attn.out_proj(merge_heads(context)))
        return update

    def finish(self, tokens: Tensor, update: Tensor) -> Tensor:
        """(B, T, V), (B, T, V) -> (B, T, V)."""
        tokens = tokens + update
        finished: Tensor = tokens + self.block.ls_2(self.block.mlp(self.block.ln_2(tokens)))
        return finished


class ViTBlock:
    """A block of timm's `VisionTransformer`: SigLIP, SigLIP 2."""

    def __init__(self, block: TimmBlock) -> None:
        self.block = block

    def project(self, tokens: Tensor, rotary: Rotary | None = None) -> Heads:
        """(B, T, V) -> q, k, v; these towers know no rotary embedding."""
        attn: Any = self.block.attn
        q, k, v = (
            split_heads(part, attn.num_heads)
            for part in attn.qkv(self.block.norm1(tokens)).chunk(3, dim=-1)
        )
        return Heads(attn.q_norm(q), attn.k_norm(k), v)

    def output(self, context: Tensor) -> Tensor:
        """(B, K, T, E) -> (B, T, V)."""
        attn: Any = self.block.attn
        update: Tensor = self.block.ls1(attn.proj(attn.norm(merge_heads(context))))
        return update

    def finish(self, tokens: Tensor, update: Tensor) -> Tensor:
        """(B, T, V), (B, T, V) -> (B, T, V)."""
        tokens = tokens + update
        finished: Tensor = tokens + self.block.ls2(self.block.mlp(self.block.norm2(tokens)))
        return finished


class RotaryBlock:
    """A block of timm's `Eva`: EVA02-CLIP, with a norm inside the attention and no bias on k."""

    def __init__(self, block: EvaBlock | EvaBlockPostNorm) -> None:
        self.block: Any = block

    def project(self, tokens: Tensor, rotary: Rotary | None = None) -> Heads:
        """(B, T, V) -> q, k, v, q and k of the patches rotated."""
        return self._heads(self.block.norm1(tokens), rotary)

    def _heads(self, tokens: Tensor, rotary: Rotary | None) -> Heads:
        attn = self.block.attn
        if attn.qkv is None:
            flat = [project(tokens) for project in (attn.q_proj, attn.k_proj, attn.v_proj)]
        else:
            q, k, v = attn.qkv(tokens).chunk(3, dim=-1)
            flat = [q, k, v] if attn.q_bias is None else [q + attn.q_bias, k, v + attn.v_bias]
        q, k, v = (split_heads(part, attn.num_heads) for part in flat)
        return Heads(rotate(attn.q_norm(q), rotary), rotate(attn.k_norm(k), rotary), v)

    def output(self, context: Tensor) -> Tensor:
        """(B, K, T, E) -> (B, T, V)."""
        attn = self.block.attn
        return self._scaled(attn.proj(attn.norm(merge_heads(context))), self.block.gamma_1)

    def finish(self, tokens: Tensor, update: Tensor) -> Tensor:
        """(B, T, V), (B, T, V) -> (B, T, V)."""
        tokens = tokens + update
        return tokens + self._scaled(self.block.mlp(self.block.norm2(tokens)), self.block.gamma_2)

    @staticmethod
    def _scaled(update: Tensor, gamma: Tensor | None) -> Tensor:
        return update if gamma is None else gamma * update


class PostNormBlock(RotaryBlock):
    """A block of timm's `Eva` with its norms behind attention and MLP: EVA02-E."""

    def project(self, tokens: Tensor, rotary: Rotary | None = None) -> Heads:
        """(B, T, V) -> q, k, v."""
        return self._heads(tokens, rotary)

    def output(self, context: Tensor) -> Tensor:
        """(B, K, T, E) -> (B, T, V)."""
        attn = self.block.attn
        update: Tensor = self.block.norm1(attn.proj(attn.norm(merge_heads(context))))
        return update

    def finish(self, tokens: Tensor, update: Tensor) -> Tensor:
        """(B, T, V), (B, T, V) -> (B, T, V)."""
        tokens = tokens + update
        finished: Tensor = tokens + self.block.norm2(self.block.mlp(tokens))
        return finished


def as_block(module: nn.Module) -> Block | None:
    """The block behind the common interface; None if its attention cannot be taken apart."""
    attn: Any = getattr(module, "attn", None)
    if type(module) is ResidualAttentionBlock:
        return NativeBlock(module)
    plain = getattr(attn, "gate", None) is None
    if type(module) is TimmBlock and type(attn) is Attention and plain:
        return ViTBlock(module)
    if type(attn) is EvaAttention and plain and not attn.rotate_half:
        if type(module) is EvaBlock:
            return RotaryBlock(module)
        if type(module) is EvaBlockPostNorm:
            return PostNormBlock(module)
    return None

"""Image towers of timm, in pieces.

B batch, h w grid, N = h * w patches, P tokens before the patches, T = P + N,
V width of a token, D embedding width
"""

from collections.abc import Sequence
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from atas_deploy.clip.attention import Block, Rotary, attend, merge_heads, split_heads
from atas_deploy.clip.positions import Grid, resize_positions, rotary_positions


class TimmTower:
    """A timm ViT: EVA02-CLIP (class token, rotary positions), SigLIP (attention pooling).

    Attention pooling is read per patch as if the patch were the whole picture: attention over one
    token is its value, so the patch passes the pool's value and output projections and its MLP.
    """

    def __init__(self, visual: TimmModel, blocks: Sequence[Block]) -> None:
        self.visual, self.trunk, self.blocks = visual, visual.trunk, blocks
        self.conv: nn.Conv2d = self.trunk.patch_embed.proj
        self.trained_grid: Grid = self.trunk.patch_embed.grid_size
        self.prefix = int(self.trunk.num_prefix_tokens)
        self.pools_patches = self.trunk.global_pool != "token"
        projections = [m for m in visual.head.modules() if isinstance(m, nn.Linear)]
        width = self.trunk.num_classes or self.trunk.num_features
        self.embed_dim = int(projections[-1].out_features if projections else width)

    @property
    def checkpointing(self) -> bool:
        """The switch of `set_grad_checkpointing`."""
        return bool(self.trunk.grad_checkpointing)

    def tokens(self, patches: Tensor, grid: Grid) -> Tensor:
        """Class and register tokens, if any, first; learned positions; a norm, if any."""
        trunk: Any = self.trunk
        first = [t for t in (trunk.cls_token, getattr(trunk, "reg_token", None)) if t is not None]
        prefix = [token.expand(patches.shape[0], -1, -1) for token in first]
        patches, table = trunk.patch_embed.norm(patches), trunk.pos_embed[0]
        positions = resize_positions(table, trained=self.trained_grid, grid=grid)
        if trunk.no_embed_class:
            tokens = torch.cat([*prefix, patches + positions], dim=1)
        else:
            tokens = torch.cat([*prefix, patches], dim=1) + positions
        normed: Tensor = trunk.norm_pre(tokens)
        return normed

    def rotary(self, like: Tensor, grid: Grid) -> Rotary | None:
        """EVA02's angles, recomputed for the grid."""
        rope = getattr(self.trunk, "rope", None)
        if rope is None:
            return None
        return rotary_positions(
            grid,
            like,
            reference=rope.ref_feat_shape,
            width=rope.dim,
            temperature=rope.temperature,
        )

    def embed(self, patches: Tensor, summary: Tensor) -> tuple[Tensor, Tensor]:
        """The image is the class token, or the attention pool over all patches."""
        tokens = torch.cat([summary, patches], dim=1)
        if self.trunk.attn_pool is None:
            tokens = self.trunk.norm(tokens)
        else:
            tokens = self._pool(self.trunk.norm(tokens), patches.shape[1])
        both = self.visual.head(self.trunk.head(self.trunk.fc_norm(tokens)))
        return both[:, 1:], both[:, 0]

    def _pool(self, tokens: Tensor, patches: int) -> Tensor:
        """Pool the first N tokens (B, N + N, V), then the others one by one: (B, 1 + N, V)."""
        pool = self.trunk.attn_pool
        k, v = pool.kv(tokens).chunk(2, dim=-1)
        q = pool.q(pool.latent).expand(tokens.shape[0], -1, -1)
        q, k, values = (split_heads(x, pool.num_heads) for x in (q, k[:, :patches], v[:, :patches]))
        pooled = merge_heads(attend(pool.q_norm(q), pool.k_norm(k), values))
        rows: Tensor = pool.proj(torch.cat([pooled, v[:, patches:]], dim=1))
        rows = rows + pool.mlp(pool.norm(rows))
        return rows

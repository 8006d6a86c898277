"""open_clip's image towers behind one interface: tokens in, blocks, embeddings out.

Each holds the tower's own modules, not copies.

    B batch, H W pixels, h w grid, N = h * w patches, P tokens before the patches, T = P + N,
    V width of a token, D embedding width
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.attention import Block, Rotary, attend, merge_heads, split_heads
from atas_deploy.clip.blocks import as_block
from atas_deploy.clip.positions import Grid, resize_positions, rotary_positions
from atas_deploy.core.errors import ConfigError


class Tower(Protocol):
    """An image tower in pieces.

    Attributes:
        blocks: its transformer blocks.
        conv: its patch embedding.
        trained_grid: (h, w) it was trained at.
        prefix: P.
        embed_dim: D.
        pools_patches: whether the image embedding is made of all patches, else of the class token.
    """

    blocks: Sequence[Block]
    conv: nn.Conv2d
    trained_grid: Grid
    prefix: int
    embed_dim: int
    pools_patches: bool

    @property
    def checkpointing(self) -> bool:
        """Whether the tower is set to gradient checkpointing."""

    def tokens(self, patches: Tensor, grid: Grid) -> Tensor:
        """Embedded patches (B, N, V) -> (B, T, V) in front of the first block."""

    def rotary(self, like: Tensor, grid: Grid) -> Rotary | None:
        """Rotary positions of the grid, None if the tower has none."""

    def embed(self, patches: Tensor, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Final norm and projection.

        Args:
            patches: (B, N, V) from the last block.
            summary: the class token (B, 1, V), or all patches (B, N, V) as the block was trained.

        Returns:
            Embeddings of the patches (B, N, D) and of the image (B, D), not normalised.
        """


class NativeTower:
    """open_clip's own `VisionTransformer`: OpenAI, LAION, DataComp, MetaCLIP, DFN, CLIPA."""

    def __init__(self, visual: VisionTransformer, blocks: Sequence[Block]) -> None:
        self.visual, self.blocks, self.conv = visual, blocks, visual.conv1
        self.trained_grid: Grid = visual.grid_size
        self.prefix = 1
        self.embed_dim = int(visual.output_dim)
        self.pools_patches = visual.pool_type == "avg"

    @property
    def checkpointing(self) -> bool:
        """The switch of `set_grad_checkpointing`."""
        return bool(self.visual.transformer.grad_checkpointing)

    def tokens(self, patches: Tensor, grid: Grid) -> Tensor:
        """Class token first; learned positions; a norm."""
        table = self.visual.positional_embedding
        positions = resize_positions(table, trained=self.trained_grid, grid=grid)
        class_token = self.visual.class_embedding.expand(patches.shape[0], 1, -1)
        tokens: Tensor = self.visual.ln_pre(torch.cat([class_token, patches], dim=1) + positions)
        return tokens

    def rotary(self, like: Tensor, grid: Grid) -> Rotary | None:
        """None."""
        return None

    def embed(self, patches: Tensor, summary: Tensor) -> tuple[Tensor, Tensor]:
        """The image is the class token, or the mean patch, the norm before or behind the mean."""
        if self.pools_patches and self.visual.final_ln_after_pool:
            summary = summary.mean(dim=1, keepdim=True)
        first = summary.shape[1]
        both = self.visual.ln_post(torch.cat([summary, patches], dim=1)) @ self.visual.proj
        return both[:, first:], both[:, :first].mean(dim=1)


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


def open_tower(visual: nn.Module) -> Tower:
    """Take an image tower apart.

    Args:
        visual: `model.visual` of an open_clip model.

    Raises:
        ConfigError: its dense features cannot be read.
    """
    trunk: Any = visual.trunk if isinstance(visual, TimmModel) else visual
    problem, blocks = _obstacle(trunk), []
    if not problem:
        native = isinstance(trunk, VisionTransformer)
        modules = trunk.transformer.resblocks if native else trunk.blocks
        blocks = [block for block in map(as_block, modules) if block is not None]
        if len(blocks) < len(modules):
            problem = "its attention blocks are customised"
    if problem:
        raise ConfigError(
            f"This image tower is not supported: {problem}; use an open_clip ViT such as ViT-B-16, "
            "EVA02-B-16 or ViT-B-16-SigLIP."
        )
    if isinstance(visual, VisionTransformer):
        return NativeTower(visual, blocks)
    assert isinstance(visual, TimmModel)
    return TimmTower(visual, blocks)


def embed_patches(tower: Tower, pixels: Tensor, stride: int) -> tuple[Tensor, Grid]:
    """Pixels (B, 3, H, W) to embedded patches (B, N, V) every `stride` pixels, and the grid.

    With a stride below the patch size P, patches overlap; the picture is padded by P - stride in
    all, repeating its edge, so that patch i is centred at (i + 0.5) * stride.

    Source: Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive
    Learning" (PACL), CVPR 2023, the stride trick.
    """
    conv = tower.conv
    margin = conv.kernel_size[0] - stride
    if margin:
        before, behind = margin // 2, margin - margin // 2
        pixels = F.pad(pixels, (before, behind, before, behind), mode="replicate")
    patches = F.conv2d(pixels, conv.weight, conv.bias, stride=stride)
    return patches.flatten(2).transpose(1, 2), (patches.shape[2], patches.shape[3])


def _obstacle(trunk: Any) -> str | None:
    """What keeps a tower from being read densely, or None."""
    if isinstance(trunk, VisionTransformer):
        problem = "it pools by attention (CoCa)" if trunk.attn_pool is not None else None
        conv = trunk.conv1
    elif isinstance(trunk, Eva | TimmViT):
        problem, conv = _timm_obstacle(trunk), trunk.patch_embed.proj
    else:
        return f"it is a {type(trunk).__name__}"
    if problem is None and not isinstance(conv, nn.Conv2d):
        problem = "it cuts images into patches by more than one convolution"
    elif problem is None and conv.kernel_size[0] != conv.kernel_size[1]:
        problem = "its patches are not square"
    return problem


def _timm_obstacle(trunk: Any) -> str | None:
    pool, rope = trunk.attn_pool, getattr(trunk, "rope", None)
    if trunk.pos_embed is None:
        return "it has no position embeddings"
    if trunk.global_pool not in ("token", "map"):
        return f"its pooling is {trunk.global_pool!r}"
    if pool and (pool.pos_embed is not None or pool.latent_len > 1 or trunk.num_prefix_tokens):
        return "its attention pool is not SigLIP's"
    if rope is not None and (trunk.rope_mixed or rope.in_pixels or rope.grid_offset):
        return "its rotary positions are not EVA02's"
    return None

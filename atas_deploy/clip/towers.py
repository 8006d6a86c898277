"""open_clip's image towers behind one interface: tokens in, blocks, embeddings out.

Each holds the tower's own modules, not copies.

    B batch, H W pixels, h w grid, N = h * w patches, P tokens before the patches, T = P + N,
    V width of a token, D embedding width
"""

from collections.abc import Sequence
from typing import Any, Protocol

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.attention import Block, Rotary
from atas_deploy.clip.blocks import as_block
from atas_deploy.clip.native_tower import NativeTower
from atas_deploy.clip.positions import Grid
from atas_deploy.clip.timm_tower import TimmTower
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
            f"This image tower is not supported: {problem}; use an open_clip ViT such as "
            "ViT-B-16/openai, EVA02-B-16/merged2b_s8b_b131k or ViT-B-16-SigLIP/webli."
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

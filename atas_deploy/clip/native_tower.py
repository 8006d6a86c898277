"""open_clip's own image tower, in pieces.

B batch, h w grid, N = h * w patches, P tokens before the patches, T = P + N,
V width of a token, D embedding width
"""

from collections.abc import Sequence

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor

from atas_deploy.clip.attention import Block, Rotary
from atas_deploy.clip.positions import Grid, resize_positions


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

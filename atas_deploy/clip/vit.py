"""Dense features of open_clip's image towers, at any size.

B batch, H W pixels, S pixels from cell to cell (the patch size, if nothing else is asked for),
h = H / S, w = W / S, P tokens before the patches, T = P + h * w, V width of the tower,
D embedding width
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from atas_deploy.clip.attention import Rotary, run_block
from atas_deploy.clip.last_block import Last
from atas_deploy.clip.positions import Grid
from atas_deploy.clip.readouts import READOUTS, Layout
from atas_deploy.clip.towers import embed_patches, open_tower
from atas_deploy.clip.windows import merge_windows, split_rotary, split_windows
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.readouts import check_readout


class DenseViT(nn.Module):
    """An open_clip image tower that also gives one embedding a patch.

    It holds the tower itself, not a copy: training one trains the other. The tower is taken apart
    here, so replace its modules before. Gradient checkpointing follows the tower's own switch;
    dropout, drop path and patch dropout, which CLIP's towers have at 0, are not applied.

    Args:
        visual: the image tower, `model.visual`.
        readout: how the last block is read; a key of `READOUTS`.
        stride: pixels from cell to cell, up to the patch size; less gives a finer grid (PACL's
            stride trick). None = the patch size.
        attention_window: side, in cells, of windows that attention keeps to in every block
            (CLIPSelf's window attention); None = attention over the whole grid.

    Attributes:
        patch_size: side of a patch in pixels.
        stride: S.
        multiple: H and W are multiples of it.
        trained_grid: (h, w) of the tower's position embeddings.
        trained_size: (H, W) it was trained at.
        embed_dim: D.

    Raises:
        ConfigError: the tower is not supported, or an argument cannot be used.
    """

    visual: Any

    def __init__(
        self,
        visual: nn.Module,
        readout: str = "sclip",
        *,
        stride: int | None = None,
        attention_window: int | None = None,
    ) -> None:
        super().__init__()
        self.visual = visual
        self.tower = open_tower(visual)
        self.readout = check_readout(readout)
        self.patch_size: int = self.tower.conv.kernel_size[0]
        self.stride = self.patch_size if stride is None else stride
        if not 1 <= self.stride <= self.patch_size:
            raise ConfigError(
                f"The patch stride is {stride} pixels; expected 1 to the patch size, "
                f"{self.patch_size}."
            )
        if attention_window is not None and attention_window < 1:
            raise ConfigError(
                f"The attention window is {attention_window} cells; expected 1 or more."
            )
        self.attention_window = attention_window
        self.multiple = self.stride * (attention_window or 1)
        self.trained_grid = self.tower.trained_grid
        rows, columns = self.trained_grid
        self.trained_size = rows * self.patch_size, columns * self.patch_size
        self.embed_dim = self.tower.embed_dim

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            pixels: (B, 3, H, W) RGB, normalised by the model's mean and standard deviation;
                H and W multiples of `multiple`.

        Returns:
            dense (B, h, w, D) and image (B, D), both L2-normalised, in float32 or more.

        Raises:
            InputError: H or W is not a multiple.
        """
        tokens, grid = self.embed(pixels)
        return self.head(self.trunk(tokens, grid), grid)

    def embed(self, pixels: Tensor) -> tuple[Tensor, Grid]:
        """Pixels to tokens (B, T, V) in front of the first block, and the grid (h, w)."""
        height, width = pixels.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise InputError(
                f"Images of {height} x {width} pixels do not fit cells of {self.multiple}; "
                f"resize each side to a multiple of {self.multiple}."
            )
        patches, grid = embed_patches(self.tower, pixels, self.stride)
        return self.tower.tokens(patches, grid), grid

    def trunk(self, tokens: Tensor, grid: Grid) -> Tensor:
        """All blocks but the last: (B, T, V) -> (B, T, V)."""
        rotary = self._rotary(tokens, grid)
        saving = self.training and self.tower.checkpointing and torch.is_grad_enabled()
        for block in self.tower.blocks[:-1]:
            step = partial(run_block, block, rotary=rotary)
            windows = self._split(tokens, grid)
            windows = checkpoint(step, windows, use_reentrant=False) if saving else step(windows)
            tokens = self._merge(windows, grid)
        return tokens

    def head(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """The last block by the read-out, the final norm and the projection.

        Args:
            tokens: (B, T, V) from `trunk`.
            grid: (h, w).

        Returns:
            dense (B, h, w, D) and image (B, D), both L2-normalised.
        """
        patches, summary = self.last_block(tokens, grid, readout=self.readout)
        dense, image = self.tower.embed(patches, summary)
        return _unit(dense).reshape(-1, *grid, self.embed_dim), _unit(image)

    def last_block(self, tokens: Tensor, grid: Grid, *, readout: str) -> tuple[Tensor, Tensor]:
        """The last block, before the final norm.

        Args:
            tokens: (B, T, V) from `trunk`.
            grid: (h, w).
            readout: how the patches are read.

        Returns:
            the patches (B, h * w, V), and what the image embedding is made of, by the block as it
            was trained: the class token (B, 1, V), or the patches (B, h * w, V).
        """
        block, (attention, reduced) = self.tower.blocks[-1], READOUTS[readout]
        rotary, tokens = self._rotary(tokens, grid), self._split(tokens, grid)
        heads = block.project(tokens, rotary)
        layout = Layout(self.tower.prefix, self._part(grid))
        last = Last(block, tokens, heads, layout, attention(heads, layout), reduced)
        if not self.tower.pools_patches:
            read = self._merge(last.with_prefix(), grid)
            return read[:, layout.prefix :], read[:, :1]
        if readout == "vanilla":
            patches = self._merge(last.alone(), grid, prefix=0)
            return patches, patches
        patches, trained = last.with_trained()
        return self._merge(patches, grid, prefix=0), self._merge(trained, grid, prefix=0)

    def _part(self, grid: Grid) -> Grid:
        """What attention looks at: a window, or the whole grid."""
        side = self.attention_window
        return grid if side is None else (side, side)

    def _rotary(self, tokens: Tensor, grid: Grid) -> Rotary | None:
        rotary, side = self.tower.rotary(tokens, grid), self.attention_window
        if rotary is None or side is None:
            return rotary
        return split_rotary(rotary, grid, side=side, batch=tokens.shape[0])

    def _split(self, tokens: Tensor, grid: Grid) -> Tensor:
        side, prefix = self.attention_window, self.tower.prefix
        return tokens if side is None else split_windows(tokens, grid, side=side, prefix=prefix)

    def _merge(self, tokens: Tensor, grid: Grid, *, prefix: int | None = None) -> Tensor:
        side, prefix = self.attention_window, self.tower.prefix if prefix is None else prefix
        return tokens if side is None else merge_windows(tokens, grid, side=side, prefix=prefix)


def _unit(features: Tensor) -> Tensor:
    """L2-normalised features in at least float32, under autocast, too."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)

"""Dense features of open_clip's native `VisionTransformer`, at any size.

B batch, H W pixels, P patch size, h = H / P, w = W / P, N = h * w patches,
T = 1 + N tokens, V width of the tower, D embedding width
"""

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.attention import run_block
from atas_deploy.clip.readouts import READOUTS
from atas_deploy.core.errors import ConfigError, InputError

Grid = tuple[int, int]


class DenseViT(nn.Module):
    """An open_clip image tower that also gives one embedding a patch.

    It holds the tower itself, not a copy: training one trains the other.

    Args:
        visual: the image tower, `model.visual`.
        readout: how the last block is read; a key of `READOUTS`.

    Raises:
        ConfigError: the tower or the read-out is not supported.
    """

    def __init__(self, visual: nn.Module, readout: str = "sclip") -> None:
        super().__init__()
        self.visual = check_tower(visual)
        self.readout = check_readout(readout)
        self.patch_size: int = self.visual.patch_size[0]
        self.trained_grid: Grid = self.visual.grid_size
        self.embed_dim = int(self.visual.output_dim)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            pixels: (B, 3, H, W) RGB, normalised by the model's mean and standard deviation;
                H and W multiples of the patch size.

        Returns:
            dense (B, h, w, D) and image (B, D), both L2-normalised.

        Raises:
            InputError: H or W is not a multiple of the patch size.
        """
        tokens, grid = self.embed(pixels)
        return self.head(self.trunk(tokens), grid)

    def embed(self, pixels: Tensor) -> tuple[Tensor, Grid]:
        """Pixels to tokens (B, T, V) in front of the first block, and the grid (h, w)."""
        height, width = pixels.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise InputError(
                f"Images of {height} x {width} pixels do not fit patches of {self.patch_size}; "
                f"resize each side to a multiple of {self.patch_size}."
            )
        grid = height // self.patch_size, width // self.patch_size
        patches_BNV = self.visual.conv1(pixels).flatten(2).transpose(1, 2)
        class_token = self.visual.class_embedding.expand(pixels.shape[0], 1, -1)
        tokens = torch.cat([class_token, patches_BNV], dim=1)
        positions = resize_positions(
            self.visual.positional_embedding, trained=self.trained_grid, grid=grid
        )
        return self.visual.ln_pre(tokens + positions), grid

    def trunk(self, tokens: Tensor) -> Tensor:
        """All blocks but the last: (B, T, V) -> (B, T, V)."""
        for block in self.visual.transformer.resblocks[:-1]:
            tokens = run_block(block, tokens)
        return tokens

    def head(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """The last block by the read-out, the final norm and the projection.

        Args:
            tokens: (B, T, V) from `trunk`.
            grid: (h, w).

        Returns:
            dense (B, h, w, D) and image (B, D), both L2-normalised.
        """
        tokens = READOUTS[self.readout](self.visual.transformer.resblocks[-1], tokens)
        features = F.normalize(self.visual.ln_post(tokens) @ self.visual.proj, dim=-1)
        return features[:, 1:].reshape(-1, *grid, self.embed_dim), features[:, 0]


def resize_positions(positions: Tensor, *, trained: Grid, grid: Grid) -> Tensor:
    """Resize position embeddings bicubically, without antialias, in at least float32.

    Nothing changes when the grid is the trained one: there each new position lies on an old one,
    where the bicubic weights are exactly 0 and 1. No branch, so one traced graph serves all sizes;
    no antialias, because TensorRT refuses it.

    Args:
        positions: (1 + h0 * w0, V), the class token's first.
        trained: (h0, w0).
        grid: (h, w) wanted.

    Returns:
        (1 + h * w, V) in the dtype of `positions`.
    """
    class_token, table = positions[:1], positions[1:]
    table = table.to(torch.promote_types(table.dtype, torch.float32))
    table_1Vhw = table.T.reshape(1, -1, *trained)
    table_1Vhw = F.interpolate(
        table_1Vhw, size=grid, mode="bicubic", align_corners=False, antialias=False
    )
    return torch.cat([class_token, table_1Vhw[0].flatten(1).T.to(positions.dtype)])


def check_readout(readout: str) -> str:
    """Return the read-out's name if there is such a read-out.

    Raises:
        ConfigError: there is none.
    """
    if readout not in READOUTS:
        raise ConfigError(f"Read-out {readout!r} is unknown; choose one of {', '.join(READOUTS)}.")
    return readout


def check_tower(visual: nn.Module) -> VisionTransformer:
    """Return the image tower if its dense features can be read.

    Raises:
        ConfigError: it is not a native ViT of plain blocks whose class token is the image feature.
    """
    problem = _obstacle(visual)
    if problem:
        raise ConfigError(
            f"This image tower is not supported: {problem}; use a native open_clip ViT that pools "
            "its class token, such as ViT-B-16."
        )
    assert isinstance(visual, VisionTransformer)
    return visual


def _obstacle(visual: nn.Module) -> str | None:
    """What keeps a tower from being read densely, or None."""
    if not isinstance(visual, VisionTransformer):
        return f"it is a {type(visual).__name__}"
    if visual.attn_pool is not None:
        return "it pools by attention"
    if visual.pool_type != "tok":
        return f"its pooling is {visual.pool_type!r}"
    if visual.patch_size[0] != visual.patch_size[1]:
        return f"its patches are not square, {visual.patch_size}"
    if not all(isinstance(b, ResidualAttentionBlock) for b in visual.transformer.resblocks):
        return "its attention blocks are customised"
    return None

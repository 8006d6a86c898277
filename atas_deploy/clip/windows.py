"""Window attention: the tokens of a grid in windows that do not overlap, and back.

Source: Wu et al., "CLIPSelf", ICLR 2024, "Beyond plain ViTs": the tokens before the patches (the
class token) are replicated for each window and averaged when windows are merged.

    B batch, h w grid, S side of a window, W = (h / S) * (w / S) windows, P tokens before the
    patches, V width of a token
"""

import torch
from torch import Tensor

from atas_deploy.clip.attention import Rotary
from atas_deploy.clip.positions import Grid


def split_windows(tokens: Tensor, grid: Grid, *, side: int, prefix: int) -> Tensor:
    """(B, P + h * w, V) -> (B * W, P + S * S, V); h and w are multiples of S."""
    first, patches = tokens[:, :prefix], tokens[:, prefix:]
    rows, columns = grid[0] // side, grid[1] // side
    windows = patches.reshape(-1, rows, side, columns, side, tokens.shape[2]).transpose(2, 3)
    windows = windows.reshape(-1, side * side, tokens.shape[2])
    first = first.unsqueeze(1).expand(-1, rows * columns, -1, -1).flatten(0, 1)
    return torch.cat([first, windows], dim=1) if prefix else windows


def merge_windows(windows: Tensor, grid: Grid, *, side: int, prefix: int) -> Tensor:
    """(B * W, P + S * S, V) -> (B, P + h * w, V)."""
    rows, columns = grid[0] // side, grid[1] // side
    patches = windows[:, prefix:].reshape(-1, rows, columns, side, side, windows.shape[2])
    patches = patches.transpose(2, 3).flatten(1, 4)
    if not prefix:
        return patches
    first = windows[:, :prefix].reshape(-1, rows * columns, prefix, windows.shape[2])
    return torch.cat([first.mean(dim=1), patches], dim=1)


def split_rotary(rotary: Rotary, grid: Grid, *, side: int, batch: int) -> Rotary:
    """Each window keeps the angles of its own patches: (h * w, E) -> (B * W, 1, S * S, E)."""
    cos, sin = (split_windows(part[None], grid, side=side, prefix=0) for part in rotary)
    return Rotary(*(part.repeat(batch, 1, 1).unsqueeze(1) for part in (cos, sin)))

"""Positions of patches on grids of any size.

h w grid, N = h * w patches, V width of a token, E width of a head
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.attention import Rotary

Grid = tuple[int, int]


def resize_positions(positions: Tensor, *, trained: Grid, grid: Grid) -> Tensor:
    """Resize position embeddings bicubically, without antialias, in at least float32.

    Bicubic interpolation is linear and separable: a product with one small matrix for each axis,
    which inference engines do ten times faster than they resize hundreds of channels.

    Nothing changes when the grid is the trained one: there each new position lies on an old one,
    where the bicubic weights are exactly 0 and 1. No branch, so one traced graph serves all sizes;
    no antialias, because TensorRT refuses it.

    Args:
        positions: (T, V), the last h0 * w0 those of patches, row by row; those before stay.
        trained: (h0, w0).
        grid: (h, w) wanted.

    Returns:
        (T - h0 * w0 + h * w, V) in the dtype of `positions`.

    Source: CLIPSelf resizes the same way.
    """
    patches = trained[0] * trained[1]
    prefix, table = positions[:-patches], positions[-patches:]
    table = table.to(torch.promote_types(table.dtype, torch.float32))
    rows, columns = (_bicubic(*lengths, like=table) for lengths in zip(trained, grid, strict=True))
    table_hwV = rows @ table.reshape(trained[0], -1)
    table_hwV = columns @ table_hwV.reshape(grid[0], trained[1], -1)
    return torch.cat([prefix, table_hwV.flatten(0, 1).to(positions.dtype)])


def _bicubic(old: int, new: int, *, like: Tensor) -> Tensor:
    """The weights of the old positions of an axis in the new ones, (new, old)."""
    each = torch.eye(old, dtype=like.dtype, device=like.device)[None, None]
    weights: Tensor = F.interpolate(each, size=(new, old), mode="bicubic", align_corners=False)
    return weights[0, 0]


def rotary_positions(
    grid: Grid, like: Tensor, *, reference: Grid | None, width: int, temperature: float
) -> Rotary:
    """Angles of axial rotary position embedding, computed for the grid at hand in float32 or more.

    A patch in row y and column x turns its channels by y' f_j (first half) and x' f_j (second
    half), two neighbouring channels at a time, with f_j = temperature^(-4 j / E) and
    y' = y h_ref / h, x' = x w_ref / w.

    Args:
        grid: (h, w).
        like: a tensor of the dtype and device wanted.
        reference: (h_ref, w_ref) of the grid that the angles were made for; None = as it is.
        width: E.
        temperature: base of the frequencies.

    Returns:
        Cosines and sines, (h * w, E).

    Source: Fang et al., "EVA-02", 2023; recomputed for each grid as CLIPSelf does.
    """
    dtype, device = torch.promote_types(like.dtype, torch.float32), like.device
    exponents = torch.arange(width // 4, dtype=torch.float64, device=device) * (4 / width)
    frequencies = (temperature**-exponents).to(dtype)
    h, w = grid
    y, x = (torch.arange(length, device=device).to(dtype) for length in grid)
    if reference is not None:
        y, x = y * reference[0] / h, x * reference[1] / w
    rows = (y[:, None] * frequencies)[:, None].expand(h, w, -1)
    columns = (x[:, None] * frequencies)[None].expand(h, w, -1)
    angles = torch.cat([rows, columns], dim=-1).flatten(0, 1).repeat_interleave(2, dim=-1)
    return Rotary(angles.cos().to(like.dtype), angles.sin().to(like.dtype))

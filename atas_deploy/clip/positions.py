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
    table_1Vhw = table.T.reshape(1, -1, *trained)
    table_1Vhw = F.interpolate(
        table_1Vhw, size=grid, mode="bicubic", align_corners=False, antialias=False
    )
    return torch.cat([prefix, table_1Vhw[0].flatten(1).T.to(positions.dtype)])


def rotary_positions(
    like: Tensor,
    *,
    grid: Grid,
    part: Grid,
    reference: Grid | None,
    width: int,
    temperature: float,
) -> Rotary:
    """Angles of axial rotary position embedding, computed for the grid at hand.

    A patch in row y and column x turns its channels by y' f_j (first half) and x' f_j (second
    half), two neighbouring channels at a time, with f_j = temperature^(-4 j / E) and
    y' = y h_ref / h, x' = x w_ref / w.

    Args:
        like: a tensor of the dtype and device wanted.
        grid: (h, w) of the whole picture.
        part: (rows, columns) wanted, from the top left; attention sees differences only, so the
            angles of one window serve all.
        reference: (h_ref, w_ref) of the grid that the angles were made for; None = as it is.
        width: E.
        temperature: base of the frequencies.

    Returns:
        Cosines and sines, (rows * columns, E).

    Source: Fang et al., "EVA-02", 2023; recomputed for each grid as CLIPSelf does.
    """
    exponents = torch.arange(width // 4, dtype=torch.float64, device=like.device) * (4 / width)
    frequencies = (temperature**-exponents).to(like.dtype)
    angles = []
    for axis in (0, 1):
        place = torch.arange(part[axis], device=like.device).to(like.dtype)
        if reference is not None:
            place = place * reference[axis] / grid[axis]
        angles.append(place[:, None] * frequencies)
    rows, columns = part
    y = angles[0][:, None, :].expand(rows, columns, -1)
    x = angles[1][None, :, :].expand(rows, columns, -1)
    both = torch.cat([y, x], dim=-1).flatten(0, 1).repeat_interleave(2, dim=-1)
    return Rotary(both.cos(), both.sin())

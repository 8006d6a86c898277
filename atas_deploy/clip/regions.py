"""One embedding for a box or a mask, differentiable: `atas_deploy.core.regions` in PyTorch.

The definitions are there; a test holds the two equal.

B batch, K regions of a picture, H W pixels, h w grid, D embedding width
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from atas_deploy.core.geometry import Size
from atas_deploy.core.regions import ROUNDING

_AT_ONCE = 8  # masks at full size in float64


def pool_boxes(dense: Tensor, boxes: Sequence[Tensor], *, size: Size) -> Tensor:
    """Embed boxes: RoIAlign to one cell, then L2 normalisation.

    Differentiable in the features. Pooled in float32 at least, under autocast, too; the result has
    the features' type. torchvision's memory grows with the area of the largest box: cut boxes to
    the picture that reach far beyond it.

    Args:
        dense: (B, h, w, D) features of pictures; unit vectors in CLIPSelf.
        boxes: (K, 4) finite xyxy for each picture, in its pixels.
        size: (H, W) of the pictures in pixels; (1, 1) for boxes in [0, 1].

    Returns:
        (sum of K, D), picture by picture, L2-normalised; zeros for a box without area or outside
        the picture.
    """
    (h, w), (height, width) = dense.shape[1:3], size
    cells = [
        box.double()
        * box.new_tensor([w, h, w, h], dtype=torch.float64)
        / box.new_tensor([width, height, width, height], dtype=torch.float64)
        for box in boxes
    ]
    with torch.autocast(dense.device.type, enabled=False):
        pooled = _one_cell(_precise(dense), cells)
    return F.normalize(pooled, dim=-1).to(dense.dtype)


def pool_masks(dense: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Embed masks: the mean over the cells of each, then L2 normalisation.

    Differentiable in the features. Pooled in float32 at least, under autocast, too; the result has
    the features' type.

    Args:
        dense: (B, h, w, D) features of pictures; unit vectors in CLIPSelf.
        masks: (K, H, W) bool for each picture.

    Returns:
        (sum of K, D), picture by picture, L2-normalised; zeros for an empty mask.
    """
    h, w = dense.shape[1:3]
    with torch.autocast(dense.device.type, enabled=False):
        pooled = [
            _mask_cells(mask, (h, w)).to(features) @ features.flatten(0, 1)
            for features, mask in zip(_precise(dense), masks, strict=True)
        ]
    return F.normalize(torch.cat(pooled), dim=-1).to(dense.dtype)


def _precise(dense: Tensor) -> Tensor:
    """Features in float32 at least."""
    return dense.to(torch.promote_types(dense.dtype, torch.float32))


def _one_cell(dense: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """RoIAlign of boxes (K, 4) in cells of the grid, to (sum of K, D)."""
    edges = [box.to(dense) for box in boxes]
    sound = [torch.cat([b[:, :2], torch.maximum(b[:, 2:], b[:, :2])], dim=1) for b in edges]
    pooled: Tensor = roi_align(dense.permute(0, 3, 1, 2), sound, 1, sampling_ratio=-1, aligned=True)
    return pooled[..., 0, 0]


def _mask_cells(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Share of each cell in each mask: (K, H, W) bool to (K, h * w) float64."""
    shares = [torch.zeros((0, grid[0] * grid[1]), dtype=torch.float64, device=masks.device)]
    for some in torch.split(masks, _AT_ONCE):
        values = F.interpolate(some[:, None].double(), grid, mode="bicubic", align_corners=False)
        cells = (values[:, 0] > ROUNDING).double()
        empty = ~cells.flatten(1).any(dim=1)
        index, *places = (some & empty[:, None, None]).nonzero(as_tuple=True)
        y, x = (i * n // side for i, n, side in zip(places, grid, some.shape[1:], strict=True))
        cells.index_put_((index, y, x), cells.new_ones(()), accumulate=True)
        shares.append(cells.flatten(1))
    total = torch.cat(shares)
    return total / total.sum(dim=1, keepdim=True).clamp(min=1)

"""Student and teacher: the tower that learns, and a frozen copy of what it was.

B images, H W pixels, h w grid, D embedding width
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import ConfigError


class Views(NamedTuple):
    """Embeddings of some pictures, float32, L2-normalised.

    Attributes:
        dense: (B, h, w, D).
        image: (B, D), of the class token.
    """

    dense: Tensor
    image: Tensor


class Student(nn.Module):
    """A tower that encodes batches of several sizes in one call.

    Distributed training sees one forward a step then, whatever the objective looks at.

    Args:
        vit: the tower with its read-out.
    """

    def __init__(self, vit: DenseViT) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, batches: Sequence[Tensor]) -> list[Views]:
        """Encode batches of normalised pictures, (B, 3, H, W) each."""
        return [Views(*self.vit(pixels)) for pixels in batches]


class Normalise:
    """Turns pixels into what a tower takes, on the tower's device.

    Args:
        clip: the model, on its device.

    Attributes:
        device: of the model.
        size: (H, W) in pixels that the model was trained at, in whole patches.
    """

    def __init__(self, clip: ClipModel) -> None:
        self.device = next(clip.model.parameters()).device
        self.size: tuple[int, int] = DenseViT(clip.model.visual).trained_size
        self._mean = torch.tensor(clip.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(clip.std, device=self.device).view(1, 3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB to float32 by the model's mean and standard deviation."""
        return (pixels.to(self.device).float() / 255.0 - self._mean) / self._std


def frozen_copy(clip: ClipModel, *, readout: str) -> DenseViT:
    """A copy of the image tower that never learns, in eval mode."""
    teacher = DenseViT(copy.deepcopy(clip.model.visual), readout=readout)
    return teacher.eval().requires_grad_(False)


def unlock_blocks(clip: ClipModel, *, last: int | None, only_blocks: bool) -> None:
    """Freeze all of the model but its image tower, or but the last blocks of that.

    Args:
        clip: the model.
        last: how many of the last blocks learn; None = all.
        only_blocks: also freeze what is in front of and behind the blocks: patch embedding,
            positions, class token, final norm and projection, as CLIPSelf does.

    Raises:
        ConfigError: there are fewer blocks.
    """
    tower = DenseViT(clip.model.visual).tower
    blocks = len(tower.blocks)
    if last is not None and not 1 <= last <= blocks:
        raise ConfigError(f"The last {last} blocks cannot learn: the image tower has {blocks}.")
    partly = only_blocks or last is not None
    clip.model.requires_grad_(False)
    clip.model.visual.requires_grad_(not partly)
    for block in tower.blocks[-(last or blocks) :]:
        block.block.requires_grad_(True)

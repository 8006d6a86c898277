"""From raw pixels to features: what an image encoder of a bundle computes, as a module.

B images, H W pixels, h w grid, D embedding width
"""

import torch
from torch import Tensor, nn

from atas_deploy.clip.vit import DenseViT


class ImageGraph(nn.Module):
    """Raw pixels in front of a `DenseViT`.

    Args:
        tower: the dense image tower.
        mean: of the pixels, RGB in [0, 1].
        std: of the pixels, RGB in [0, 1].
    """

    def __init__(self, tower: DenseViT, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.tower = tower
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, 3) uint8 RGB -> dense (B, h, w, D), image (B, D)."""
        dense, image = self.tower(self.normalise(images))
        return dense, image

    def normalise(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 by mean and standard deviation.

        The cast comes first: TensorRT refuses any other operation on uint8.
        """
        return (images.to(torch.float32).permute(0, 3, 1, 2) - self.mean) / self.std

"""Training steps as one writes them first, to compare this project's with: `train_step.py`.

The structure of the published code: float32, eager, the teacher on every crop of every step, crops
and mosaics made on the CPU from full pictures, loops over mosaics, cells and images. The towers are
open_clip's own modules, so attention is what PyTorch makes of `nn.MultiheadAttention`; that, and
PyTorch's default AdamW, are as fast as they come with PyTorch.

B images, K crops, S side of a student's input in pixels, h w grid, D embedding width
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from atas_deploy.clip.model import ClipModel
from atas_deploy.training.grids import draw_cells
from atas_deploy.training.loader import Draw

SCALE = 100.0  # of similarities, CLIP's logit scale
RELATIONS = 0.1  # weight of local-to-local
MOST_CROPS = 20


class Tower(nn.Module):
    """open_clip's image tower with an embedding a patch.

    Args:
        visual: a plain CLIP tower.
        values: read patches by the last block's value path, as CLIPSelf does.
    """

    def __init__(self, visual: Any, *, values: bool) -> None:
        super().__init__()
        self.visual, self.values = visual, values

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) to unit vectors (B, h, w, D) and (B, D)."""
        visual = self.visual
        x = visual.conv1(pixels)
        grid = x.shape[2:]
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x.flatten(2).mT], dim=1)
        x = visual.ln_pre(x + positions(visual.positional_embedding, grid))
        for block in visual.transformer.resblocks[:-1]:
            x = block(x)
        last = visual.transformer.resblocks[-1]
        whole = last(x)
        patches = (value_path(last, x) if self.values else whole)[:, 1:]
        dense, image = (visual.ln_post(y) @ visual.proj for y in (patches, whole[:, 0]))
        return F.normalize(dense, dim=-1).unflatten(1, grid), F.normalize(image, dim=-1)


def positions(table: Tensor, grid: Sequence[int]) -> Tensor:
    """Position embeddings (1 + h * w, V) of a grid, by bicubic interpolation."""
    side = int((len(table) - 1) ** 0.5)
    square = table[1:].T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], resized[0].flatten(1).T])


def value_path(block: Any, x: Tensor) -> Tensor:
    """A block whose attention is left out: every token keeps its own value."""
    attention, width = block.attn, x.shape[-1]
    weight, bias = attention.in_proj_weight[-width:], attention.in_proj_bias[-width:]
    x = x + attention.out_proj(F.linear(block.ln_1(x), weight, bias))
    return x + block.mlp(block.ln_2(x))


def square(image: np.ndarray) -> np.ndarray:
    """The middle square of a picture."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]


def padded(image: np.ndarray, side: int, *, centre: bool) -> tuple[np.ndarray, float]:
    """A picture whose longer side is `side`, padded with zeros to a square, and its scale."""
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    canvas = np.zeros((side, side, 3), np.uint8)
    top, left = ((side - height) // 2, (side - width) // 2) if centre else (0, 0)
    canvas[top : top + height, left : left + width] = resized(image, (width, height))
    return canvas, scale


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture at (width, height)."""
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Normalise:
    """Pixels to the model's input."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 to (3, H, W) float32."""
        pixels = (image.astype(np.float32) / 255 - np.float32(self.mean)) / np.float32(self.std)
        return torch.from_numpy(pixels).permute(2, 0, 1)


@dataclass(frozen=True)
class AtasData:
    """Mosaics on the CPU, from full pictures."""

    normalise: Normalise
    side: int
    size: int
    grid: int

    def __call__(self, image: np.ndarray, _: Draw) -> dict[str, Tensor]:
        """A whole image, and the same for its cell."""
        cell, middle = self.size // self.grid, square(image)
        return {
            "whole": self.normalise(resized(middle, (self.side, self.side))),
            "cell": self.normalise(resized(middle, (cell, cell))),
        }

    def collate(self, samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Put cell by cell into mosaics (M, 3, S, S)."""
        cell, g = self.size // self.grid, self.grid
        mosaics = torch.zeros(len(samples) // g**2, 3, g * cell, g * cell)
        for i, sample in enumerate(samples):
            mosaic, place = divmod(i, g**2)
            y, x = (cell * n for n in divmod(place, g))
            mosaics[mosaic, :, y : y + cell, x : x + cell] = sample["cell"]
        return {"whole": torch.stack([sample["whole"] for sample in samples]), "mosaics": mosaics}


@dataclass(frozen=True)
class ClipSelfData:
    """Padded pictures, and their crops from full pictures, on the CPU."""

    normalise: Normalise
    side: int
    size: int
    grid: int

    def __call__(self, image: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """The student's input, boxes in it, and a crop for each of them."""
        boxes = draw_cells(image.shape[:2], draw.rng, largest=self.grid, most=MOST_CROPS)
        canvas, scale = padded(image, self.size, centre=False)
        crops = []
        for x0, y0, x1, y1 in boxes.astype(int):
            crops.append(self.normalise(padded(image[y0:y1, x0:x1], self.side, centre=True)[0]))
        return {
            "image": self.normalise(canvas),
            "boxes": torch.from_numpy(boxes * scale).float(),
            "crops": torch.stack(crops),
        }

    def collate(self, samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Numbers of crops differ: "counts" tells them apart."""
        data = {
            name: torch.cat([sample[name] for sample in samples]) for name in ("boxes", "crops")
        }
        data["image"] = torch.stack([sample["image"] for sample in samples])
        data["counts"] = torch.tensor([len(sample["boxes"]) for sample in samples])
        return data


class PlainStep:
    """Student, teacher and optimizer of either method.

    Args:
        clip: the model, on its device.
        method: "atas" or "clipself".
        data: makes the batches.
    """

    def __init__(self, clip: ClipModel, method: str, data: AtasData | ClipSelfData) -> None:
        self.method, self.data = method, data
        visual = clip.model.visual
        self.teacher = Tower(copy.deepcopy(visual), values=False).eval().requires_grad_(False)
        self.student = Tower(visual, values=method == "clipself").train()
        self.device = visual.conv1.weight.device
        if method == "clipself":
            visual.requires_grad_(False)
            visual.transformer.requires_grad_(True)
        trained = [p for p in visual.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, betas=(0.9, 0.98), weight_decay=0.1)

    def __call__(self, batch: dict[str, Tensor]) -> float:
        """Take a step; the loss before it."""
        data = {name: tensor.to(self.device) for name, tensor in batch.items()}
        loss = self.atas(data) if self.method == "atas" else self.clipself(data)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def atas(self, data: dict[str, Tensor]) -> Tensor:
        """InfoNCE of cells and of class tokens, and patch similarities."""
        with torch.no_grad():
            keys = self.teacher(data["whole"])[1]
            targets = self.teacher(data["mosaics"])[0]
        dense, image = self.student(data["mosaics"])[0], self.student(data["whole"])[1]
        pooled = self.pool(dense, keys)
        own = torch.arange(len(keys), device=self.device)
        relations = []
        for p, q in zip(dense.flatten(1, 2), targets.flatten(1, 2), strict=True):
            relations.append(torch.norm(p @ p.T - q @ q.T, dim=1).mean())
        local = F.cross_entropy(SCALE * pooled @ keys.T, own)
        whole = F.cross_entropy(SCALE * image @ keys.T, own)
        return local + RELATIONS * torch.stack(relations).mean() + whole

    def pool(self, dense: Tensor, keys: Tensor) -> Tensor:
        """Cell by cell, patches weighted by their similarity to the cell's image: (B, D)."""
        g = self.data.grid
        n, pooled = dense.shape[1] // g, []
        for mosaic in dense:
            for row in range(g):
                for column in range(g):
                    cell = mosaic[row * n : (row + 1) * n, column * n : (column + 1) * n]
                    patches = cell.reshape(-1, cell.shape[-1])
                    weights = torch.softmax(SCALE * patches @ keys[len(pooled)], dim=0)
                    pooled.append(F.normalize(weights @ patches, dim=0))
        return torch.stack(pooled)

    def clipself(self, data: dict[str, Tensor]) -> Tensor:
        """1 - cosine of regions in the student's features and the teacher's crops."""
        with torch.no_grad():
            targets = self.teacher(data["crops"])[1]
        dense = self.student(data["image"])[0].permute(0, 3, 1, 2)
        scale, regions = dense.shape[-1] / self.data.size, []
        boxes = (data["boxes"] * scale).split(data["counts"].tolist())
        for features, own in zip(dense, boxes, strict=True):
            found = roi_align(features[None], [own], 1, sampling_ratio=-1, aligned=True)
            regions.append(F.normalize(found[..., 0, 0], dim=-1))
        return (1 - (torch.cat(regions) * targets).sum(dim=-1)).mean()

"""Features of the frozen ImageNet tower, computed once and kept in a file.

M images, V width of the image tower
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import InputError
from atas_deploy.core.files import atomic_path
from atas_deploy.training.pairs import Pairs

SIZE = 224
_IMAGES_AT_ONCE = 16

Note = Callable[[str], None]


def read_pixels(pairs: Pairs, index: int) -> Tensor:
    """Read an image as (3, 224, 224) float32 in [-1, 1].

    Raises:
        InputError: it cannot be decoded or has another size.
    """
    image = pairs.image(index)
    if image is None:
        raise InputError(pairs.broken[pairs.names[index]])
    if image.shape[:2] != (SIZE, SIZE):
        raise InputError(
            f"{pairs.names[index]} is {image.shape[0]} x {image.shape[1]} pixels; the recipe "
            f"expects {SIZE} x {SIZE}."
        )
    return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1.0


def whole_features(vit: DenseViT, pairs: Pairs, *, cache: Path, note: Note) -> Tensor:
    """Class tokens in front of the projection of images and mirror images, (2, M, V)."""

    def compute() -> Iterator[Tensor]:
        note("computing features of whole images")
        for batch in pixel_batches(pairs):
            both = torch.cat([batch, batch.flip(-1)])
            yield torch.stack(class_tokens(vit, both).chunk(2))

    return _cached(cache / "whole.npy", lambda: torch.cat(list(compute()), dim=1))


@torch.inference_mode()
def class_tokens(vit: DenseViT, pixels: Tensor) -> Tensor:
    """Class tokens in front of the projection, (B, V) float32, computed in bfloat16."""
    with torch.autocast(pixels.device.type, torch.bfloat16):
        tokens, grid = vit.embed(pixels)
        _, class_token = vit.last_block(vit.trunk(tokens, grid), grid, readout="maskclip")
        normed: Tensor = vit.visual.ln_post(class_token[:, 0])
    return normed.float()


def pixel_batches(pairs: Pairs) -> Iterator[Tensor]:
    """All images in order, some at once: (B, 3, 224, 224) in [-1, 1]."""
    for start in range(0, len(pairs), _IMAGES_AT_ONCE):
        stop = min(start + _IMAGES_AT_ONCE, len(pairs))
        yield torch.stack([read_pixels(pairs, index) for index in range(start, stop)])


def _cached(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    if not path.exists():
        features = compute()
        with atomic_path(path) as part, part.open("wb") as file:
            np.save(file, features.half().numpy())
    return torch.from_numpy(np.load(path)).float()

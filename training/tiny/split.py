"""Which images are held out, and how well captions find them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

HELD_OUT_FILE = Path(__file__).resolve().parents[1] / "data" / "flickr8k_heldout.txt"
HELD_OUT = 1000


def held_out_names(names: Sequence[str], *, count: int = HELD_OUT) -> list[str]:
    """The `count` names with the smallest SHA-256, sorted: a split that no order of files moves."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return sorted(ranked[:count])


def names_hash(names: Sequence[str]) -> str:
    """SHA-256 of a list of names, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def recall(image_features: Tensor, text_features: Tensor, owner: Tensor) -> dict[str, float]:
    """Recall at 1, 5 and 10 in percent.

    Args:
        image_features: (M, D), L2-normalised.
        text_features: (T, D), L2-normalised.
        owner: (T,) image of each text; each image has one at least.
    """
    cosines = text_features @ image_features.T
    own = cosines[torch.arange(len(owner)), owner]
    text_rank = (cosines > own[:, None]).sum(dim=1)
    mine = owner[:, None] == torch.arange(len(image_features))
    best = cosines.masked_fill(~mine, -torch.inf).amax(dim=0)
    image_rank = (cosines.masked_fill(mine, -torch.inf) > best).sum(dim=0)
    ranks = {"text_to_image": text_rank, "image_to_text": image_rank}
    return {
        f"{direction}_R@{k}": round(100.0 * float((rank < k).float().mean()), 2)
        for direction, rank in ranks.items()
        for k in (1, 5, 10)
    }

"""Learning rates over time and over parameters."""

import math
from collections.abc import Iterable
from typing import TypedDict

from torch import nn

# As open_clip and timm call what lies in front of the blocks, and what is learned as a token.
_STEM = {"conv1", "class_embedding", "positional_embedding", "ln_pre"} | {
    "patch_embed",
    "cls_token",
    "pos_embed",
    "norm_pre",
}
_TOKENS = ("positional_embedding", "pos_embed", "cls_token", "latent")


class ParameterGroup(TypedDict):
    """One group of an optimizer.

    `scale` multiplies the learning rate of the schedule.
    """

    params: list[nn.Parameter]
    weight_decay: float
    scale: float


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up to `peak`, then a half cosine down to zero.

    Args:
        step: the step about to be taken, from 0.
        peak: largest rate.
        warmup_steps: steps until the peak is reached.
        total_steps: length of the run.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * peak * (1.0 + math.cos(math.pi * min(1.0, done)))


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], *, weight_decay: float, layer_decay: float = 1.0
) -> list[ParameterGroup]:
    """Group trainable parameters by weight decay and learning rate.

    Gains, biases, class and position embeddings are not decayed (CLIP's rule). With `layer_decay`
    below 1 the rate falls by that factor for each block further away from the output.

    Args:
        named: parameter names and parameters; those that need no gradient are left out.
        weight_decay: decay of matrices.
        layer_decay: factor from one block of the image tower to the one below it.
    """
    trainable = [(name, p) for name, p in named if p.requires_grad]
    depths = {name: _image_depth(name) for name, _ in trainable}
    top = 1 + max((d for d in depths.values() if d is not None), default=0)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in trainable:
        depth = depths[name]
        scale = 1.0 if depth is None else layer_decay ** (top - depth)
        groups.setdefault((_is_decayed(name, parameter), scale), []).append(parameter)
    return [
        {"params": params, "weight_decay": weight_decay if decayed else 0.0, "scale": scale}
        for (decayed, scale), params in groups.items()
    ]


def _is_decayed(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not name.endswith(_TOKENS)


def _image_depth(name: str) -> int | None:
    """Block number from 1 in the image tower, 0 in front of it, None elsewhere or behind it."""
    parts = name.removeprefix("visual.").removeprefix("trunk.").split(".")
    if not name.startswith("visual."):
        return None
    for blocks in {"resblocks", "blocks"} & set(parts):
        return 1 + int(parts[parts.index(blocks) + 1])
    return 0 if parts[0] in _STEM else None

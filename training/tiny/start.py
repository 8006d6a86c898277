"""The model before training: an ImageNet ViT-Ti/16 beside a random text tower."""

import gzip
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from atas_deploy.clip.model import build_model
from atas_deploy.clip.text import OpenClip
from atas_deploy.core.errors import InputError

EMBED_DIM = 256
CONTEXT_LENGTH = 48
DEPTH = 12
HEADER = '"bpe_simple_vocab_16e6.txt" - a subset of the merges of OpenAI CLIP'
_BLOCK_NAMES = {
    "norm1.weight": "ln_1.weight",
    "norm1.bias": "ln_1.bias",
    "attn.qkv.weight": "attn.in_proj_weight",
    "attn.qkv.bias": "attn.in_proj_bias",
    "attn.proj.weight": "attn.out_proj.weight",
    "attn.proj.bias": "attn.out_proj.bias",
    "norm2.weight": "ln_2.weight",
    "norm2.bias": "ln_2.bias",
    "mlp.fc1.weight": "mlp.c_fc.weight",
    "mlp.fc1.bias": "mlp.c_fc.bias",
    "mlp.fc2.weight": "mlp.c_proj.weight",
    "mlp.fc2.bias": "mlp.c_proj.bias",
}


def tiny_config(vocab_size: int) -> dict[str, Any]:
    """open_clip configuration of the model."""
    vision = {
        "layers": DEPTH,
        "width": 192,
        "head_width": 64,
        "patch_size": 16,
        "image_size": 224,
        "no_ln_pre": True,
        "norm_kwargs": {"eps": 1e-6},
        "pool_type": "tok",
    }
    text = {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": vocab_size,
        "width": 256,
        "heads": 4,
        "layers": 3,
    }
    half = [0.5, 0.5, 0.5]
    return {
        "model_cfg": {"embed_dim": EMBED_DIM, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {
            "mean": half,
            "std": half,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def build_start(config: Mapping[str, Any], *, vit: Path, seed: int) -> OpenClip:
    """Build the model with the ImageNet image tower and a random text tower.

    Args:
        config: from `tiny_config`.
        vit: npz file of a ViT-Ti/16 under timm's names.
        seed: seed of the random part.
    """
    torch.manual_seed(seed)
    model = build_model(config)
    model.visual.load_state_dict(image_tower_state(read_arrays(vit)), strict=False)
    torch.nn.init.constant_(model.logit_scale, np.log(20.0))
    return model


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Read the arrays of an npz file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with np.load(path) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read ({exc}); give the folder of the data.") from exc


def image_tower_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert timm's arrays to open_clip's names; only `proj` stays to be filled.

    open_clip's patch convolution has no bias: it is added to the positions of the patches instead.
    """
    positions = arrays["pos_embed"][0].clone()
    positions[1:] += arrays["patch_embed.proj.bias"]
    state = {
        "conv1.weight": arrays["patch_embed.proj.weight"],
        "class_embedding": arrays["cls_token"][0, 0],
        "positional_embedding": positions,
        "ln_post.weight": arrays["norm.weight"],
        "ln_post.bias": arrays["norm.bias"],
    }
    for block in range(DEPTH):
        for theirs, ours in _BLOCK_NAMES.items():
            state[f"transformer.resblocks.{block}.{ours}"] = arrays[f"blocks.{block}.{theirs}"]
    return state


def select_merges(texts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Merges of CLIP's BPE that some texts need, in CLIP's order.

    Words of the texts become the very tokens that CLIP gives them; every other string still
    encodes, in smaller pieces.

    Args:
        texts: text -> how often its words must occur in all texts of the same number to count.
    """
    tokenizer = SimpleTokenizer()
    needed: set[tuple[str, str]] = set()
    for least in set(texts.values()):
        words = _count_words(tokenizer, (text for text, n in texts.items() if n == least))
        for word, count in words.items():
            if count >= least:
                needed.update(_merges_of(tokenizer, word))
    ranks: dict[tuple[str, str], int] = tokenizer.bpe_ranks
    return sorted(needed, key=lambda merge: ranks[merge])


def write_merges(path: Path, merges: Iterable[tuple[str, str]]) -> None:
    """Write a merges file in CLIP's format; equal merges give equal bytes."""
    content = "\n".join([HEADER, *(" ".join(merge) for merge in merges)])
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as file:
        file.write(content.encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def _count_words(tokenizer: SimpleTokenizer, texts: Iterable[str]) -> Counter[str]:
    """Words (in CLIP's byte alphabet) of some texts."""
    encoder = tokenizer.byte_encoder
    counts: Counter[str] = Counter()
    for text in texts:
        words = tokenizer.pat.findall(tokenizer.clean_fn(text))
        counts.update("".join(encoder[byte] for byte in word.encode()) for word in words)
    return counts


def _merges_of(tokenizer: SimpleTokenizer, word: str) -> list[tuple[str, str]]:
    """The merges that BPE applies to a word."""
    ranks: dict[tuple[str, str], int] = tokenizer.bpe_ranks
    parts = [*word[:-1], word[-1] + "</w>"]
    applied: list[tuple[str, str]] = []
    while len(parts) > 1:
        best = min(itertools.pairwise(parts), key=lambda p: ranks.get(p, len(ranks)))
        if best not in ranks:
            break
        applied.append(best)
        parts = _merge(parts, best)
    return applied


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of a pair."""
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out

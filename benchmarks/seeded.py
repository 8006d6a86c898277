"""open_clip models with seeded weights, for measurements that need no real ones.

python benchmarks/seeded.py ViT-B-16 runs/b16       # a bundle of one
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import default_bpe
from torch import nn

from atas_deploy.clip.model import ClipModel, build_model, with_preprocessing
from atas_deploy.export.bundle import export_bundle


def main() -> None:
    """Export a model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("architecture", help="open_clip's name")
    parser.add_argument("out", type=Path, help="the bundle's folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        export_bundle(seeded_model(args.architecture, Path(folder)), args.out)


def seeded_model(architecture: str, folder: Path, *, seed: int = 0) -> ClipModel:
    """A model of open_clip's with random weights, the same at every call.

    A new tower's norms and biases are ones and zeros and some of its heads are tiny, so that whole
    parts could be left out unnoticed: `stir` gives every weight a part in the result.

    Args:
        architecture: open_clip's name.
        folder: where a made-up tokenizer may be written.
        seed: of the weights.
    """
    config = with_preprocessing({"model_cfg": open_clip.get_model_config(architecture)})
    torch.manual_seed(seed)
    model = build_model(config)
    stir(model)
    foreign = "hf_tokenizer_name" in config["model_cfg"]["text_cfg"]
    return ClipModel(
        model=model,
        config=config,
        name=architecture,
        tokenizer_file=made_up_tokenizer(folder) if foreign else Path(default_bpe()),
        record={"architecture": architecture},
    )


def stir(model: nn.Module) -> None:
    """Add noise to every weight: 0.1 to vectors, half of 1 / sqrt(inputs) to matrices."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim:  # not the logit scale and bias
                inputs = np.prod(weight.shape[1:])
                scale = 0.1 if weight.ndim == 1 else 0.5 / inputs**0.5
                weight.add_(scale * torch.randn_like(weight))


def made_up_tokenizer(folder: Path) -> Path:
    """A tokenizer.json that knows a thousand words, for towers whose own must be downloaded."""
    words = ["<pad>", "<unk>", "a", "dog", "photo", "of", *(f"word{i}" for i in range(1000))]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        },
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: i for i, word in enumerate(words)},
            "unk_token": "<unk>",
        },
    }
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()

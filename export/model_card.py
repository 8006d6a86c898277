"""README.md of a folder for open_clip: a model card in the form of the Hugging Face hub."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import open_clip

from atas_deploy import __version__
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import MERGES
from atas_deploy.core.hf_tokenizer import HfTokenizer
from atas_deploy.core.tokenizer import ClipTokenizer
from atas_deploy.export.cases import TEXTS

README = "README.md"
_CARD = """---
library_name: open_clip
pipeline_tag: zero-shot-image-classification
license: other
license_name: {license}
tags: [clip]
---

# {name}

A CLIP model in open_clip's format, written by atas-deploy {version}. Licence: {license}.

    import open_clip
    model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
    tokenizer = {tokenizer}

- Architecture: {architecture}; images of {size} px, {mean} / {std} as mean and standard deviation.
- {tokens}
- `training.json` has what is known of the weights; licence texts that came with them lie here, too.
- open_clip gives the class token.
  For a feature of each patch: `atas-deploy export --model FOLDER`{readout}.

## Origin

    {origin}
"""


def model_card(model: ClipModel, record: Mapping[str, Any]) -> str:
    """The text of the card.

    Args:
        model: what it is about.
        record: content of its training.json.
    """
    vision = model.config["model_cfg"]["vision_cfg"]
    readout = record.get("readout")
    tokenizer, tokens = _tokenizer(model)
    return _CARD.format(
        name=record["name"],
        license=record.get("license", "NOASSERTION"),
        version=__version__,
        architecture=model.architecture,
        size=vision.get("image_size", 224),
        mean=list(model.mean),
        std=list(model.std),
        tokenizer=tokenizer,
        tokens=tokens,
        readout=f", read-out {readout}" if readout else "",
        origin=json.dumps(record["provenance"], indent=2).replace("\n", "\n    "),
    )


def _tokenizer(model: ClipModel) -> tuple[str, str]:
    """How open_clip makes the model's tokenizer: an expression, and a sentence."""
    tokenizer, by_name = model.tokenizer(), 'open_clip.get_tokenizer("local-dir:FOLDER")'
    if isinstance(tokenizer, HfTokenizer):
        return by_name, "The tokenizer is read from `tokenizer.json` here; it needs transformers."
    if _is_open_clips_own(tokenizer):
        return by_name, "The tokenizer is CLIP's own."
    made = (
        f'open_clip.SimpleTokenizer(bpe_path="FOLDER/{MERGES}", '
        f"context_length={tokenizer.context_length})"
    )
    return made, (
        "The tokenizer has fewer tokens than CLIP's, so `open_clip.get_tokenizer` would give ids "
        "that the model has no embeddings for: make it as above."
    )


def _is_open_clips_own(tokenizer: ClipTokenizer) -> bool:
    """Whether open_clip's default tokenizer gives the same ids."""
    theirs = open_clip.SimpleTokenizer(context_length=tokenizer.context_length)
    same_size = theirs.vocab_size == tokenizer.vocab_size
    return same_size and np.array_equal(theirs(list(TEXTS)), tokenizer(TEXTS, trim=False))

"""Pretrained CLIP models by the names open_clip gives them, such as "ViT-B-16/openai"."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.tokenizer import default_bpe
from safetensors import SafetensorError

from atas_deploy.clip.model import (
    ClipModel,
    build_model,
    with_checked_tokenizer,
    with_preprocessing,
)
from atas_deploy.core.errors import CheckpointError, ConfigError

_SHOWN = 4


def load_pretrained(source: str) -> ClipModel:
    """Load "ARCHITECTURE/PRETRAINED", from open_clip's cache or the network.

    Raises:
        ConfigError: the name is unknown or the model is not supported.
        CheckpointError: the weights cannot be fetched or read.
    """
    architecture, _, tag = source.partition("/")
    entry = _pretrained_entry(source, architecture, tag)
    model_cfg = open_clip.get_model_config(architecture)
    if entry.get("quick_gelu"):
        model_cfg["quick_gelu"] = True  # the activation belongs to the weights, not to the name
    config = with_preprocessing({"model_cfg": model_cfg, "preprocess_cfg": entry})
    with torch.device("meta"):
        build_model(config)  # refuse what is not supported before the download
    path = _download(source, entry)
    model = build_model(config)
    try:
        open_clip.load_checkpoint(model, path)
    except (OSError, RuntimeError, SafetensorError, KeyError) as exc:
        raise CheckpointError(
            f"The weights {path} do not fit {architecture} ({exc}); delete the file to fetch it "
            "again."
        ) from exc
    origin = {"source": "open_clip", "architecture": architecture, "pretrained": tag}
    loaded = ClipModel(
        model=model,
        config=config,
        name=f"{architecture}-{tag}",
        merges=Path(default_bpe()),
        record={"architecture": architecture, "provenance": origin},
    )
    return with_checked_tokenizer(loaded)


def _pretrained_entry(source: str, architecture: str, tag: str) -> dict[str, Any]:
    """open_clip's entry of pretrained weights."""
    models = open_clip.list_models()
    if architecture not in models:
        near = get_close_matches(architecture, models, n=3, cutoff=0.4)
        raise ConfigError(
            f'Unknown model "{source}": there is no such folder and open_clip has no architecture '
            f'"{architecture}"; did you mean {", ".join(near) or "ViT-B-16"}?'
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        got = f'no weights "{tag}"' if tag else "several weights"
        near = get_close_matches(tag, tags, n=_SHOWN, cutoff=0.4) or tags[:_SHOWN]
        choices = ", ".join(f"{architecture}/{known}" for known in near) or "a model folder"
        raise ConfigError(
            f'open_clip has {got} for "{architecture}"; choose one of its {len(tags)}, such as '
            f"{choices}."
        )
    return dict(get_pretrained_cfg(architecture, tag))


def _download(source: str, entry: dict[str, Any]) -> str:
    """The file of the weights, fetched into open_clip's cache unless it is there."""
    try:
        return str(download_pretrained(entry))
    except Exception as exc:  # hub, proxy and certificate errors share no base class
        reason = str(exc).strip().partition("\n")[0].partition(". ")[0] or type(exc).__name__
        raise CheckpointError(
            f"Cannot fetch the weights of {source} ({reason}); connect to the network once, or "
            "give a folder that holds the model."
        ) from exc

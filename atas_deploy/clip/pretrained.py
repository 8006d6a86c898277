"""Models by open_clip's names: "ViT-B-16/openai", or "ViT-B-16/FILE" for weights of your own."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import download_pretrained, get_pretrained_cfg

from atas_deploy.clip.activation import check_activation
from atas_deploy.clip.architectures import fill_model, twin, with_sizes_of
from atas_deploy.clip.checkpoints import read_state
from atas_deploy.clip.hub import fetch, fetch_weights, find_tokenizer
from atas_deploy.clip.model import (
    ClipModel,
    build_model,
    with_checked_tokenizer,
    with_preprocessing,
)
from atas_deploy.core.classes import shorten
from atas_deploy.core.errors import ConfigError

_SHOWN = 4


def is_tag(architecture: str, tag: str) -> bool:
    """Whether open_clip lists such weights."""
    return tag in open_clip.list_pretrained_tags_by_model(architecture)


def load_pretrained(source: str) -> ClipModel:
    """Load "ARCHITECTURE/PRETRAINED", from open_clip's cache or the network.

    The activation is that of the weights, whether the architecture's name says so or not.

    Raises:
        ConfigError: the name is unknown or the model is not supported.
        CheckpointError: the weights cannot be fetched or read.
    """
    architecture, _, tag = source.partition("/")
    entry = _pretrained_entry(source, architecture, tag)
    model_cfg = open_clip.get_model_config(architecture)
    _refuse_unsupported({"model_cfg": model_cfg})
    if model_cfg.get("quick_gelu") and not entry.get("quick_gelu"):
        raise ConfigError(
            f"The weights {tag} were trained with GELU, but {architecture} means QuickGELU; write "
            f"{twin(architecture) or 'an architecture without -quickgelu'}/{tag}."
        )
    if entry.get("quick_gelu"):
        model_cfg["quick_gelu"] = True
    config = with_preprocessing({"model_cfg": model_cfg, "preprocess_cfg": entry})
    what, address = f"the weights of {source}", entry.get("hf_hub")
    fetched = (
        fetch_weights(address, what=what)
        if address
        else fetch(lambda: download_pretrained(entry), what=what)
    )
    origin = {"source": "open_clip", "architecture": architecture, "pretrained": tag}
    return _load(
        config, fetched, name=f"{architecture}-{tag}", architecture=architecture, origin=origin
    )


def load_own(architecture: str, path: Path, config: dict[str, Any] | None = None) -> ClipModel:
    """Load weights from a file into an architecture of open_clip.

    Args:
        architecture: open_clip's name of it.
        path: the checkpoint.
        config: content of open_clip_config.json beside it; its preprocessing is used.

    Raises:
        ConfigError: the model is not supported, or the weights need the other activation.
        CheckpointError: the weights cannot be read or do not fit.
    """
    model_cfg = open_clip.get_model_config(architecture)
    preprocess = config["preprocess_cfg"] if config else _common_preprocessing(architecture)
    found = with_preprocessing({"model_cfg": model_cfg, "preprocess_cfg": preprocess})
    _refuse_unsupported(found)
    origin = {"source": "file", "architecture": architecture, "file": path.name}
    name = f"{architecture}-{path.stem}"
    return _load(found, path, name=name, architecture=architecture, origin=origin)


def _load(
    config: dict[str, Any], path: Path, *, name: str, architecture: str, origin: dict[str, str]
) -> ClipModel:
    """Read a checkpoint, take its sizes for the model's, and fill the model."""
    state, own = read_state(path), origin["source"] == "file"
    if own:
        check_activation(architecture, config["model_cfg"], path, state.keys())
    config = with_sizes_of(config, state)
    loaded = ClipModel(
        model=fill_model(config, state, where=path, asked=architecture),
        config=config,
        name=name,
        tokenizer_file=find_tokenizer(config, path.parent if own else None),
        record={"architecture": architecture, "provenance": origin},
    )
    return with_checked_tokenizer(loaded)


def _refuse_unsupported(config: dict[str, Any]) -> None:
    """Raise ConfigError if the model is not supported, without making its weights."""
    with torch.device("meta"):
        build_model(config)


def _common_preprocessing(architecture: str) -> dict[str, Any]:
    """The preprocessing that all weights of an architecture share; {} if they differ."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    found = [
        with_preprocessing({"preprocess_cfg": get_pretrained_cfg(architecture, t)}) for t in tags
    ]
    same = found and all(config == found[0] for config in found)
    return dict(found[0]["preprocess_cfg"]) if same else {}


def _pretrained_entry(source: str, architecture: str, tag: str) -> dict[str, Any]:
    """open_clip's entry of pretrained weights."""
    models = open_clip.list_models()
    if architecture not in models:
        near = get_close_matches(architecture, models, n=3, cutoff=0.4) or ["ViT-B-16"]
        choices = [f"{name}/{tag if is_tag(name, tag) else 'FILE'}" for name in near]
        raise ConfigError(
            f'Unknown model "{shorten(source)}": there is no such file or folder and open_clip '
            f'has no architecture "{shorten(architecture)}"; did you mean {", ".join(choices)}?'
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not is_tag(architecture, tag):
        got = f'no weights "{shorten(tag)}"' if tag else f"{len(tags)} sets of weights"
        near = get_close_matches(tag, tags, n=_SHOWN, cutoff=0.4) or tags[:_SHOWN]
        choices = [f"{architecture}/{name}" for name in near] + [
            f"or a file, as {architecture}/FILE"
        ]
        raise ConfigError(
            f'open_clip has {got} for "{architecture}"; choose one, such as {", ".join(choices)}.'
        )
    return dict(get_pretrained_cfg(architecture, tag))

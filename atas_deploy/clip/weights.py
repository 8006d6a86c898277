"""Load a CLIP model: from a folder, a bundle that carries weights, a checkpoint, or by name.

folder/open_clip_config.json        model and preprocessing configuration, open_clip's format
folder/open_clip_model.safetensors  state dict (in a bundle: weights.safetensors)
folder/tokenizer/                   merges.txt.gz, or tokenizer.json and settings.json
folder/training.json                optional: where the weights come from
"""

import json
from pathlib import Path
from typing import Any

import open_clip

from atas_deploy.clip.architectures import (
    describe,
    fill_model,
    fitting_architectures,
    ways_to_write,
)
from atas_deploy.clip.checkpoints import read_state
from atas_deploy.clip.hub import fetch_model, find_tokenizer
from atas_deploy.clip.model import ClipModel, with_checked_tokenizer, with_preprocessing
from atas_deploy.clip.pretrained import load_own, load_pretrained
from atas_deploy.core.bundle import MANIFEST, MODEL_CONFIG, WEIGHTS, Bundle
from atas_deploy.core.errors import CheckpointError, ConfigError
from atas_deploy.models.sources import HUB, check_source, split_source

MODEL_WEIGHTS = "open_clip_model.safetensors"
TRAINING_RECORD = "training.json"
_OTHER_WEIGHTS = ("open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


def load_model(source: str | Path) -> ClipModel:
    """Load a model with its weights.

    Args:
        source: one of
            a model folder, or a bundle folder with weights;
            "ARCHITECTURE/PRETRAINED" as open_clip knows them, such as "ViT-B-16/openai"
            (downloaded once);
            "ARCHITECTURE/FILE", such as "ViT-B-16/runs/epoch_5.pt": open_clip weights, as
            .safetensors, .pt, .pth or .bin;
            a checkpoint with open_clip_config.json beside it;
            "hf-hub:ORGANISATION/REPOSITORY", in open_clip's format (downloaded once).

    Raises:
        ConfigError: the name is unknown, the model is not supported, or the activation is wrong.
        CheckpointError: the weights cannot be read, fetched or do not fit the configuration.
        BundleError: the folder is a damaged bundle.
    """
    name = str(source)
    check_source(name)
    if name.startswith(HUB):
        return _load_hub(name)
    architecture, path = split_source(name)
    if path is None or (architecture and architecture not in open_clip.list_models()):
        return load_pretrained(name)
    if architecture:
        beside = path.parent / MODEL_CONFIG
        return load_own(architecture, path, _read_config(beside) if beside.is_file() else None)
    return _load_folder(path) if path.is_dir() else _load_file(path)


def _load_folder(folder: Path) -> ClipModel:
    """Load a model folder, or a bundle with weights."""
    if (folder / MANIFEST).is_file():
        bundle = Bundle.open(folder)
        if WEIGHTS not in bundle.manifest.files:
            raise CheckpointError(
                f"The bundle {folder} holds graphs only, no weights; give the model it was "
                "exported from."
            )
        bundle.verify(WEIGHTS)
        return _load_configured(
            folder / WEIGHTS,
            name=bundle.manifest.name,
            record=_bundle_record(bundle),
            folder=folder,
        )
    candidates = (folder / name for name in (MODEL_WEIGHTS, *_OTHER_WEIGHTS))
    weights = next((path for path in candidates if path.is_file()), folder / MODEL_WEIGHTS)
    record = _read_json(folder / TRAINING_RECORD, needed=False)
    provenance = record.get("provenance")
    record = record | {"provenance": provenance if isinstance(provenance, dict) else record}
    name = str(record.get("name", folder.resolve().name))
    return _load_configured(weights, name=name, record=record, folder=folder)


def _load_file(path: Path) -> ClipModel:
    """Load a checkpoint by the configuration beside it.

    Raises:
        ConfigError: there is none; says which of open_clip's architectures fit.
    """
    if (path.parent / MODEL_CONFIG).is_file():
        origin = {"source": "file", "file": path.name}
        return _load_configured(path, name=path.stem, record={"provenance": origin})
    state = read_state(path)
    names = fitting_architectures(state)
    if not names:
        raise ConfigError(
            f"{path} has no {MODEL_CONFIG} beside it and fits no supported architecture of "
            f"open_clip: it is {describe(state)}; give the folder or bundle it came with."
        )
    several = len(names) > 1
    reason = ", which the weights alone cannot tell apart" if several else ""
    raise ConfigError(
        f"{path} has no {MODEL_CONFIG} beside it; it fits open_clip's {' and '.join(names)}"
        f"{reason}: write {ways_to_write(names, path)}."
    )


def _load_hub(source: str) -> ClipModel:
    """Load a repository of the Hugging Face hub."""
    path, weights = fetch_model(source)
    repository = source.removeprefix(HUB)
    record = {"provenance": {"source": HUB.rstrip(":"), "repository": repository}}
    name = repository.rpartition("/")[2]
    return _load_configured(weights, name=name, record=record, config=path)


def _load_configured(
    weights: Path,
    *,
    name: str,
    record: dict[str, Any],
    config: Path | None = None,
    folder: Path | None = None,
) -> ClipModel:
    """Load weights by an open_clip_config.json, the one beside them if no other is given."""
    content = _read_config(config or weights.parent / MODEL_CONFIG)
    state = read_state(weights)
    loaded = ClipModel(
        model=fill_model(content, state, where=weights, asked="this configuration"),
        config=content,
        name=name,
        tokenizer_file=find_tokenizer(content, None if config else weights.parent),
        record=record,
        folder=folder,
    )
    return with_checked_tokenizer(loaded)


def _bundle_record(bundle: Bundle) -> dict[str, Any]:
    """What a bundle's manifest tells about its weights."""
    keys = ("architecture", "readout", "license", "short_side", "provenance")
    settings = ("stride", "attention_window")
    return {key: getattr(bundle.manifest, key) for key in (*keys, *settings)}


def _read_json(path: Path, *, needed: bool = True) -> dict[str, Any]:
    """Content of a JSON object; {} if the file is neither there nor needed."""
    if not needed and not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(
            f"Cannot read {path} ({exc}); give a model folder written by `atas-deploy train`."
        ) from exc
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object; copy or train the model again.")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    """Content of open_clip_config.json, checked and completed."""
    config = _read_json(path)
    model_cfg, preprocess = config.get("model_cfg"), config.get("preprocess_cfg", {})
    found = model_cfg if isinstance(model_cfg, dict) and "embed_dim" in model_cfg else {}
    parts = [found.get("vision_cfg"), found.get("text_cfg"), preprocess]
    if not all(isinstance(part, dict) for part in parts):
        raise CheckpointError(
            f"{path} is not an open_clip configuration: `model_cfg` needs embed_dim, vision_cfg "
            "and text_cfg; copy or train the model again."
        )
    return with_preprocessing(config)

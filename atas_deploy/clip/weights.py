"""Load a CLIP model: from a model folder, a bundle that carries weights, or an open_clip name.

folder/open_clip_config.json        model and preprocessing configuration, open_clip's format
folder/open_clip_model.safetensors  state dict (in a bundle: weights.safetensors)
folder/tokenizer/merges.txt.gz      the tokenizer's merges
folder/training.json                optional: where the weights come from
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from atas_deploy.clip.model import (
    ClipModel,
    build_model,
    load_state,
    with_checked_tokenizer,
    with_preprocessing,
)
from atas_deploy.clip.pretrained import load_pretrained
from atas_deploy.core.bundle import MANIFEST, MERGES, MODEL_CONFIG, WEIGHTS, Bundle
from atas_deploy.core.errors import CheckpointError

MODEL_WEIGHTS = "open_clip_model.safetensors"
TRAINING_RECORD = "training.json"


def load_model(source: str | Path) -> ClipModel:
    """Load a model with its weights.

    Args:
        source: a model folder, a bundle folder with weights, or "ARCHITECTURE/PRETRAINED" as
            open_clip knows them, such as "ViT-B-16/openai" (downloaded once).

    Raises:
        ConfigError: the name is unknown or the model is not supported.
        CheckpointError: the weights cannot be read, fetched or do not fit the configuration.
        BundleError: the folder is a damaged bundle.
    """
    if Path(source).is_dir():
        return _load_folder(Path(source))
    return load_pretrained(str(source))


def _load_folder(folder: Path) -> ClipModel:
    """Load a model folder, or a bundle with weights."""
    if (folder / MANIFEST).is_file():
        bundle = Bundle.open(folder)
        if WEIGHTS not in bundle.manifest.files:
            raise CheckpointError(
                f"The bundle {folder} holds graphs only, no weights; give the model it was "
                "exported from."
            )
        weights, name, record = folder / WEIGHTS, bundle.manifest.name, _bundle_record(bundle)
    else:
        weights, record = folder / MODEL_WEIGHTS, _read_json(folder / TRAINING_RECORD, needed=False)
        provenance = record.get("provenance")
        record = record | {"provenance": provenance if isinstance(provenance, dict) else record}
        name = str(record.get("name", folder.resolve().name))
    config = _read_config(folder / MODEL_CONFIG)
    model = build_model(config)
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as exc:
        raise CheckpointError(
            f"Cannot read the weights {weights} ({exc}); copy or train the model again."
        ) from exc
    load_state(model, state, where=weights)
    loaded = ClipModel(
        model=model, config=config, name=name, merges=folder / MERGES, record=record, folder=folder
    )
    return with_checked_tokenizer(loaded)


def _bundle_record(bundle: Bundle) -> dict[str, Any]:
    """What a bundle's manifest tells about its weights."""
    keys = ("architecture", "readout", "license", "short_side", "provenance")
    return {key: getattr(bundle.manifest, key) for key in keys}


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
    if not {"vision_cfg", "text_cfg", "embed_dim"} <= dict(config.get("model_cfg", {})).keys():
        raise CheckpointError(
            f"{path} is not an open_clip configuration: `model_cfg` needs embed_dim, vision_cfg "
            "and text_cfg; copy or train the model again."
        )
    return with_preprocessing(config)

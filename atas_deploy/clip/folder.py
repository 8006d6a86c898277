"""The model folder: what training leaves, `load_model` reads and open_clip takes as "local-dir:".

folder/open_clip_config.json        model and preprocessing configuration, open_clip's format
folder/open_clip_model.safetensors  state dict
folder/tokenizer/                   the tokenizer's files
folder/training.json                settings, provenance, data, measurements
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.weights import MODEL_WEIGHTS, TRAINING_RECORD
from atas_deploy.core.bundle import MODEL_CONFIG
from atas_deploy.core.files import atomic_path


def write_model(
    folder: Path,
    clip: ClipModel,
    *,
    record: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model folder that open_clip loads as "local-dir:FOLDER".

    Args:
        folder: an existing folder.
        clip: the model, with its configuration and tokenizer.
        record: content of training.json.
        state: weights to write instead of the model's own.

    Raises:
        OutputError: a file cannot be written.
    """
    with atomic_path(folder / MODEL_CONFIG) as part:
        part.write_text(json.dumps(dict(clip.config), indent=2) + "\n", encoding="utf-8")
    clip.write_tokenizer(folder)
    state = clip.model.state_dict() if state is None else state
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_path(folder / MODEL_WEIGHTS) as part:
        part.write_bytes(save(tensors, metadata={"format": "pt"}))
    write_record(folder, record)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write training.json.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(folder / TRAINING_RECORD) as part:
        part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def copy_texts(source: Path | None, folder: Path, patterns: Sequence[str]) -> None:
    """Copy what goes along with weights, such as their licence, from where they were loaded.

    Args:
        source: the folder of the weights; None = there is none.
        folder: an existing folder.
        patterns: of file names.

    Raises:
        OutputError: a file cannot be written.
    """
    for text in (text for pattern in patterns for text in (source.glob(pattern) if source else ())):
        with atomic_path(folder / text.name) as part:
            shutil.copyfile(text, part)

"""`--format openclip`: a model as a folder that open_clip loads, for programs built on it.

What clip/folder.py writes (weights in float32), and beside it

    tokenizer.json, tokenizer_config.json   only of a Hugging Face tokenizer, for open_clip
    README.md                               model card
    LICENSE*, MODEL_CARD.md                 what came with the weights
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from torch.nn import functional as F

from atas_deploy import __version__
from atas_deploy.clip.folder import copy_texts, write_model
from atas_deploy.clip.hub import TOKENIZER_NOTES
from atas_deploy.clip.manifest import encoder_settings
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import OpenClip, TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.clip.weights import TRAINING_RECORD
from atas_deploy.core.bundle import LICENSE_TEXTS, MODEL_CONFIG
from atas_deploy.core.errors import ExportError, ParityError, first_sentence
from atas_deploy.core.hf_tokenizer import HfTokenizer, read_tokenizer
from atas_deploy.export.cases import image_batches, text_cases
from atas_deploy.export.folder import FolderKind, new_folder
from atas_deploy.export.model_card import README, model_card

LARGEST_DIFFERENCE = 1e-6
"""Of any element of a unit feature, between open_clip's class token or text and our modules'."""
_EXPORTED = "exported"  # the key of training.json that tells our own folders
_FORMAT = "openclip"
_INHERITED = ("architecture", "license", "short_side", "readout", "stride", "attention_window")


def is_exported(folder: Path) -> bool:
    """Tell a folder that `export_openclip` wrote from others, such as that of a training run."""
    try:
        record = json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8"))
        return bool(record[_EXPORTED]["format"] == _FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


FOLDER = FolderKind(noun="folder of this command", option="--out", is_one=is_exported)


def export_openclip(
    model: ClipModel,
    out: Path,
    *,
    force: bool = False,
    photos: Sequence[npt.NDArray[np.uint8]] = (),
    license_id: str | None = None,
) -> float:
    """Write a model for open_clip, load it back with open_clip and compare.

    Every tensor must come back with the same bits, class token and text features must be those of
    our own modules.

    Args:
        model: what to export.
        out: folder to write.
        force: replace a folder that this function wrote.
        photos: (H, W, 3) uint8 RGB images to compare on, besides synthetic ones.
        license_id: SPDX expression of the weights; by default as the model records.

    Returns:
        The largest difference of any element of the features.

    Raises:
        ExportError: open_clip cannot load the folder.
        ParityError: it does not compute what our modules compute; nothing is written.
        OutputError: the folder exists, or cannot be written.
    """
    record = _record(model, license_id)
    with new_folder(out, force=force, kind=FOLDER) as folder:
        write_model(folder, model, record=record)
        _write_foreign_tokenizer(folder, model)
        copy_texts(model.folder, folder, (*LICENSE_TEXTS, "MODEL_CARD.md"))
        difference = _prove(_load_back(folder), model, photos)
        (folder / README).write_text(model_card(model, record), encoding="utf-8")
    return difference


def _record(model: ClipModel, license_id: str | None) -> dict[str, Any]:
    """Content of training.json, by which `load_model` knows the model again."""
    known = {key: value for key in _INHERITED if (value := model.record.get(key)) is not None}
    return {
        "name": model.name,
        **known,
        **({"license": license_id} if license_id else {}),
        _EXPORTED: {"format": _FORMAT, "version": __version__, "open_clip": open_clip.__version__},
        "provenance": model.record.get("provenance", {}),
    }


def _write_foreign_tokenizer(folder: Path, model: ClipModel) -> None:
    """Put a Hugging Face tokenizer where open_clip and transformers look: beside the weights."""
    tokenizer = model.tokenizer()
    if not isinstance(tokenizer, HfTokenizer):
        return
    shutil.copyfile(model.tokenizer_file, folder / "tokenizer.json")
    for name in TOKENIZER_NOTES:
        if (model.tokenizer_file.parent / name).is_file():
            shutil.copyfile(model.tokenizer_file.parent / name, folder / name)
    notes = folder / TOKENIZER_NOTES[0]
    if not notes.exists():  # the model came as a bundle, which keeps the settings only
        notes.write_text(json.dumps(_notes(tokenizer, model.tokenizer_file), indent=2) + "\n")


def _notes(tokenizer: HfTokenizer, path: Path) -> dict[str, Any]:
    """What transformers must know beside a tokenizer.json."""
    settings, known = tokenizer.settings, read_tokenizer(path)
    notes = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": known.id_to_token(settings.pad_id),
        "padding_side": "left" if settings.pad_left else "right",
    }
    separator = settings.strip_id
    return notes | ({"sep_token": known.id_to_token(separator)} if separator is not None else {})


def _load_back(folder: Path) -> OpenClip:
    """Load a folder as a program built on open_clip does."""
    try:
        loaded: OpenClip = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    except Exception as exc:  # open_clip, torch and timm errors share no base class
        raise ExportError(
            f"open_clip {open_clip.__version__} cannot load the folder ({first_sentence(exc)}); "
            f"check {MODEL_CONFIG} of the model, or report its name."
        ) from exc
    return loaded.eval()


def _prove(loaded: OpenClip, model: ClipModel, photos: Sequence[npt.NDArray[np.uint8]]) -> float:
    """Compare weights and features; the largest difference of the latter.

    Raises:
        ParityError: a tensor is not the same, or a feature differs by more than the limit.
    """
    theirs = loaded.state_dict()
    for name, tensor in model.model.state_dict().items():
        if name not in theirs or not torch.equal(theirs[name], tensor):
            raise ParityError(
                f"The tensor {name} is not the same after open_clip loaded it; nothing was "
                "written, please report it with the model's name."
            )
    return max(_images_differ(loaded, model, photos), _texts_differ(loaded, model))


@torch.inference_mode()
def _images_differ(
    loaded: OpenClip, model: ClipModel, photos: Sequence[npt.NDArray[np.uint8]]
) -> float:
    """Largest difference of class tokens, over batches of the size that open_clip takes."""
    readout = encoder_settings(model)["readout"]
    tower = DenseViT(model.model.visual, readout)
    graph = ImageGraph(tower, mean=model.mean, std=model.std).eval()
    differences = []
    for batch in image_batches(tower.trained_size, photos):
        images = torch.from_numpy(batch)
        got = F.normalize(loaded.encode_image(graph.normalise(images)), dim=-1)
        differences.append(_difference("class token", batch.shape, got, graph(images)[1]))
    return max(differences)


@torch.inference_mode()
def _texts_differ(loaded: OpenClip, model: ClipModel) -> float:
    """Largest difference of text features, over rows of the length that open_clip takes."""
    encoder, tokens = TextEncoder(model.model).eval(), text_cases(model.tokenizer())[-1]
    got = F.normalize(loaded.encode_text(torch.from_numpy(tokens)), dim=-1)
    return _difference("text", tokens.shape, got, encoder(torch.from_numpy(tokens)))


def _difference(
    what: str, shape: tuple[int, ...], got: torch.Tensor, expected: torch.Tensor
) -> float:
    """Largest difference of any element; NaN is refused, too."""
    value = float((got - expected).abs().max())
    if not value <= LARGEST_DIFFERENCE:
        raise ParityError(
            f"The {what} that open_clip computes for input {' x '.join(map(str, shape))} differs "
            f"from ours by {value:.3g}, limit {LARGEST_DIFFERENCE:g}; nothing was written, please "
            "report it with the model's name."
        )
    return value

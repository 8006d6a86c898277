"""State dicts: reading them from any file that open_clip reads, and filling models with them."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.model import convert_to_custom_text_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from atas_deploy.clip.text import OpenClip
from atas_deploy.core.errors import CheckpointError, first_sentence
from atas_deploy.models.sources import SUFFIXES, check_file

State = dict[str, Tensor]
OPENAI_ENTRIES = ("input_resolution", "context_length", "vocab_size")
_HOLDERS = ("state_dict", "model", "model_state_dict")  # where training scripts put the weights
_WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put in front


def read_state(path: Path) -> State:
    """Read the tensors of a checkpoint, on the CPU, in their own type.

    Takes a state dict or a training checkpoint that holds one, as .safetensors or in PyTorch's
    formats; of the latter only tensors are read, never code.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.
    """
    check_file(path)
    try:
        content = load_file(path) if path.suffix == SUFFIXES[0] else _load_pickle(path)
    except CheckpointError:
        raise
    except Exception as exc:  # safetensors, pickle, zip and torch errors share no base class
        telling = isinstance(exc, OSError | RuntimeError | SafetensorError)
        reason = first_sentence(exc) if telling else "it holds no tensors, or is damaged"
        raise CheckpointError(
            f"Cannot read the weights {path} ({reason}); copy or train the model again."
        ) from exc
    return _state_of(content, where=path)


def _load_pickle(path: Path) -> Any:
    """Content of a file written by torch.save."""
    zipped = zipfile.is_zipfile(path)
    if zipped and _is_torchscript(path):
        raise CheckpointError(
            f"{path} is a TorchScript archive, which holds code, as OpenAI's own files do; load "
            "such weights by name, as in ViT-B-16/openai, or save "
            f'torch.jit.load("{path.name}").state_dict() to a file of its own.'
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as exc:
        found = re.search(r"GLOBAL ([\w.]+)", str(exc))
        if not found:
            raise
        raise CheckpointError(
            f"{path} holds Python objects ({found[1]}) beside its tensors, and reading those could "
            "run code; if you trust it, load it with torch.load(..., weights_only=False) and save "
            "its state dict to a file of its own."
        ) from exc


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _state_of(content: Any, *, where: Path) -> State:
    """The state dict in what a file holds, without the prefixes of wrappers."""
    held = content if isinstance(content, Mapping) else {}
    found = next((held[key] for key in _HOLDERS if isinstance(held.get(key), Mapping)), held)
    if not found or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise CheckpointError(
            f"{where} holds no state dict, that is tensors by name, but a "
            f"{type(content).__name__} of something else; give an open_clip checkpoint."
        )
    state = {str(name): tensor for name, tensor in found.items()}
    while wrapper := next((w for w in _WRAPPERS if all(n.startswith(w) for n in state)), None):
        state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return state


def adapt_state(model: OpenClip, state: Mapping[str, Tensor]) -> State:
    """Rename and reshape what older releases of open_clip and OpenAI wrote otherwise."""
    adapted = {name: tensor for name, tensor in state.items() if name not in OPENAI_ENTRIES}
    if "positional_embedding" in adapted and not hasattr(model, "positional_embedding"):
        adapted = convert_to_custom_text_state_dict(adapted)
    for name in ("logit_scale", "logit_bias"):  # one number, with a dimension or without
        expected = getattr(model, name, None)
        if expected is not None and name in adapted and adapted[name].numel() == 1:
            adapted[name] = adapted[name].reshape(expected.shape)
    return adapted


def load_state(model: OpenClip, state: Mapping[str, Tensor], *, where: str | Path) -> None:
    """Copy weights of any float type into a model; every tensor must be there and fit.

    Args:
        model: the model to fill.
        state: tensors by name.
        where: the file they come from, for messages.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape or not finite.
    """
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - expected.keys()]
    problems += [
        f"{name} has shape {list(state[name].shape)}, expected {list(expected[name].shape)}"
        for name in expected.keys() & state.keys()
        if state[name].shape != expected[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"The weights {where} do not fit the model: {_tensors(problems)}, such as that "
            f"{min(problems)}; check that they belong to this configuration."
        )
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"The weights {where} hold NaN or infinity in {len(broken)} tensors, such as "
            f"{min(broken)}; use a checkpoint from before training diverged."
        )
    model.load_state_dict(dict(state))


def _tensors(problems: list[str]) -> str:
    return "1 tensor differs" if len(problems) == 1 else f"{len(problems)} tensors differ"

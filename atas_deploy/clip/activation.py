"""GELU or QuickGELU: tensors do not tell, and the wrong one gives plausible, worse features.

What can tell is looked for in turn: open_clip_config.json beside the file; params.txt, which
open_clip's training writes; marks of OpenAI's own weights; the file being one that open_clip lists.
Anything else cannot be told: the name that the user gives is then believed.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from open_clip.pretrained import get_pretrained_cfg

from atas_deploy.clip.architectures import twin
from atas_deploy.clip.checkpoints import OPENAI_ENTRIES
from atas_deploy.core.bundle import MODEL_CONFIG
from atas_deploy.core.errors import ConfigError

_HASHED = re.compile(r"/([0-9a-f]{64})/|-([0-9a-f]{8})\.pt$")  # in addresses of weights


class Evidence(NamedTuple):
    """Which activation weights were trained with, and how that is known."""

    quick_gelu: bool
    source: str


def check_activation(
    architecture: str, model_cfg: Mapping[str, Any], path: Path, names: Collection[str]
) -> None:
    """Refuse weights that are known to need the other activation.

    Args:
        architecture: open_clip's name that the user gave.
        model_cfg: its configuration.
        path: the checkpoint.
        names: names of the checkpoint's tensors.

    Raises:
        ConfigError: the weights need the other activation.
    """
    evidence, asked = find_evidence(path, names), bool(model_cfg.get("quick_gelu"))
    if evidence is None or evidence.quick_gelu == asked:
        return
    other = twin(architecture)
    cure = (
        f"write {other}/{path}"
        if other
        else f"give the file alone with an {MODEL_CONFIG} that says so"
    )
    raise ConfigError(
        f"The weights {path} were trained with {_name(evidence.quick_gelu)} ({evidence.source}), "
        f"but {architecture} means {_name(asked)}; {cure}."
    )


def find_evidence(path: Path, names: Collection[str]) -> Evidence | None:
    """What is known about the activation of a checkpoint."""
    return (
        _from_config(path.parent / MODEL_CONFIG)
        or _from_training(path)
        or _from_entries(names)
        or _from_list(path)
    )


def _from_config(path: Path) -> Evidence | None:
    """What open_clip_config.json says."""
    try:
        model_cfg = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        return Evidence(bool(model_cfg.get("quick_gelu")), f"{MODEL_CONFIG} beside them says so")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _from_training(path: Path) -> Evidence | None:
    """What params.txt says, which open_clip's training puts above the folder of checkpoints."""
    for folder in (path.parent, path.parent.parent):
        try:
            lines = (folder / "params.txt").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        params = {
            key.strip(): value.strip() for key, _, value in (ln.partition(":") for ln in lines)
        }
        config = open_clip.get_model_config(params.get("model", "").replace("/", "-"))
        if config:
            quick = params.get("force_quick_gelu") == "True" or config.get("quick_gelu")
            return Evidence(bool(quick), "params.txt of their training says so")
    return None


def _from_entries(names: Collection[str]) -> Evidence | None:
    """OpenAI's own files carry three entries that nobody else writes."""
    found = [name for name in OPENAI_ENTRIES if name in names]
    return Evidence(True, f"their entry {found[0]} is a mark of OpenAI's own") if found else None


def _from_list(path: Path) -> Evidence | None:
    """The file is one that open_clip lists, by its hash or its place in Hugging Face's cache."""
    repository = next((part for part in path.parts if part.startswith("models--")), "")
    entries = list(_listed())
    for name, entry in entries if repository else ():
        if entry["hf_hub"].strip("/").replace("/", "--") == repository.removeprefix("models--"):
            return Evidence(bool(entry.get("quick_gelu")), f"open_clip lists them as {name}")
    if path.suffix == ".safetensors":  # open_clip lists no hashes of these
        return None
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    for name, entry in entries:
        found = _HASHED.search(entry["url"])
        if found and digest.startswith(found[1] or found[2]):
            return Evidence(bool(entry.get("quick_gelu")), f"open_clip lists them as {name}")
    return None


def _listed() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every pretrained model of open_clip: name and entry."""
    for architecture, tag in open_clip.list_pretrained():
        entry = get_pretrained_cfg(architecture, tag)
        yield f"{architecture}/{tag}", {"url": "", "hf_hub": "", **entry}


def _name(quick_gelu: bool) -> str:
    return "QuickGELU" if quick_gelu else "GELU"

"""What a model is loaded from: local files that may change, or a name that the network knows.

"FOLDER", "FILE", "ARCHITECTURE/FILE", "ARCHITECTURE/WEIGHTS" or "hf-hub:ORGANISATION/REPOSITORY".
All who read such a source split it here, so that they mean the same file.
"""

import os
import re
from pathlib import Path
from typing import Any

from atas_deploy.core.bundle import MANIFEST, MODEL_CONFIG
from atas_deploy.core.classes import shorten
from atas_deploy.core.errors import CheckpointError, ConfigError

HUB = "hf-hub:"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_BESIDE = (MODEL_CONFIG, "training.json", "tokenizer*.json", "tokenizer/*")
_REPOSITORY = re.compile(  # the hub's own rules
    r"(?!.*(?:--|\.\.))(?!.*\.git$)(?=.{3,96}$)\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", re.ASCII
)


def split_source(source: str) -> tuple[str, Path | None]:
    """The architecture in front, "" if there is none, and the local path; None if it names none.

    A path that exists as it is written is that path. Behind an architecture only checkpoints count,
    so that no file called "openai" hides the weights of that name.
    """
    if source.startswith(HUB):
        return "", None
    whole = _expanded(source)
    if os.path.exists(whole):  # noqa: PTH110  (False for impossible names, where Path raises)
        return "", Path(whole)
    architecture, _, rest = source.partition("/")
    file = _expanded(rest)
    if file.endswith(SUFFIXES) and os.path.isfile(file):  # noqa: PTH113
        return architecture, Path(file)
    return "", None


def _expanded(path: str) -> str:
    """A path with the home folder in place of a leading "~"."""
    return os.path.expanduser(path) if path.startswith("~/") else path  # noqa: PTH111


def absolute(source: str) -> str:
    """A source in one spelling, independent of the current folder."""
    architecture, path = split_source(source)
    if path is None:
        return source
    return "/".join([*([architecture] if architecture else []), os.path.realpath(path)])


def stamp(source: str) -> list[list[Any]]:
    """Path, size in bytes and time of change in ns of the local files of a source, if any."""
    _, path = split_source(source)
    if path is None:
        return []
    folder = path if path.is_dir() else path.parent
    files = set(path.glob("*")) if path.is_dir() else {path}
    files |= {file for pattern in _BESIDE for file in folder.glob(pattern)}
    return [_stat(file) for file in sorted(files) if file.is_file()]


def _stat(file: Path) -> list[Any]:
    status = file.stat()
    return [os.path.realpath(file), status.st_size, status.st_mtime_ns]


def check_source(source: str) -> None:
    """Refuse what can be told to be no model without reading weights; the rest may be one.

    Raises:
        ConfigError: a file or folder that is missing or no model, or a name that cannot be one.
        CheckpointError: a file that is empty or of another kind.
    """
    _, path = split_source(source)
    if path is not None:
        check_folder(path) if path.is_dir() else check_file(path)
    elif source.startswith(HUB):
        repository_of(source)
    elif "://" in source:
        raise ConfigError(
            f'"{shorten(source)}" is an address; download the file and name it ARCHITECTURE/FILE, '
            f"or write {HUB}ORGANISATION/REPOSITORY."
        )
    elif source.endswith(SUFFIXES):
        behind = "" if source[0] in "./~" else source.partition("/")[2]
        files = " or ".join(shorten(path) for path in (source, behind) if path)
        raise ConfigError(f"There is no file {files}; check the path of the checkpoint.")


def repository_of(source: str) -> str:
    """ORGANISATION/REPOSITORY of a source on the Hugging Face hub.

    Raises:
        ConfigError: the name is not of this form.
    """
    repository = source.removeprefix(HUB)
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(
            f'"{shorten(source)}" names no model; write {HUB}ORGANISATION/REPOSITORY, such as '
            f"{HUB}timm/ViT-B-16-SigLIP."
        )
    return repository


def check_file(path: Path) -> None:
    """Refuse a file that is no checkpoint.

    Raises:
        CheckpointError: by its name, or it is empty.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path} is not a checkpoint: its name must end in one of {', '.join(SUFFIXES)}."
        )
    if path.is_file() and not path.stat().st_size:
        raise CheckpointError(
            f"Cannot read the weights {path} (it is empty); copy or train the model again."
        )


def check_folder(folder: Path) -> None:
    """Refuse a folder that is neither a bundle nor a model.

    Raises:
        ConfigError: it has neither a manifest nor a configuration; says how to name a checkpoint.
    """
    if (folder / MANIFEST).exists() or (folder / MODEL_CONFIG).exists():
        return
    found = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    if found:
        raise ConfigError(
            f"{folder} holds checkpoints but no {MODEL_CONFIG}; name one with its architecture, "
            f"as in ViT-B-16/{found[0]}."
        )
    raise ConfigError(
        f"{folder} is not a model: expected the folder of a bundle ({MANIFEST}), as `atas-deploy "
        f"export` writes it, or of a model ({MODEL_CONFIG}), as `atas-deploy train` does."
    )

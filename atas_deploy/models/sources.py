"""What a model is loaded from: local files that may change, or a name that the network knows."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from atas_deploy.core.bundle import MODEL_CONFIG

_BESIDE = (MODEL_CONFIG, "training.json", "tokenizer*.json", "tokenizer/*")


def stamp(source: str) -> list[list[Any]]:
    """Path, size in bytes and time of change in ns of the local files of a source, if any."""
    path = _local(source)
    if path is None:
        return []
    folder = path if path.is_dir() else path.parent
    files = set(path.glob("*")) if path.is_dir() else {path}
    files |= {file for pattern in _BESIDE for file in folder.glob(pattern)}
    return [_stat(file) for file in sorted(files) if file.is_file()]


def _stat(file: Path) -> list[Any]:
    status = file.stat()
    return [os.path.realpath(file), status.st_size, status.st_mtime_ns]


def _local(source: str) -> Path | None:
    """The path inside a source: all of it, or what follows an architecture."""
    after = source.partition("/")[2]
    with suppress(ValueError, OSError):
        if Path(source).exists():
            return Path(source)
        if after and Path(after).is_file():
            return Path(after)
    return None


def absolute(source: str) -> str:
    """A source, independent of the current folder."""
    path = _local(source)
    if path is None:
        return source
    head = source.removesuffix(str(path)) if str(path) != source else ""
    return head + os.path.realpath(path)

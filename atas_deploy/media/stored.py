"""Pictures by name, in a folder or in a tar file."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import read_image

Pixels = npt.NDArray[np.uint8]
Read = Callable[[str], Pixels]
"""Decodes a picture by name: (H, W, 3) uint8 RGB; raises InputError."""


def open_stored(path: Path) -> tuple[set[str], Read]:
    """Open a folder (searched below, too) or an uncompressed tar file.

    Returns:
        The names of its files, by the path inside it and by the last part of that (of two files
        of one name the last counts), and a function that decodes one.

    Raises:
        InputError: it is neither.
    """
    return _open_tar(path) if path.is_file() else _open_folder(path)


def _open_folder(folder: Path) -> tuple[set[str], Read]:
    if not folder.is_dir():
        raise InputError(f"{folder} is neither a folder of images nor a tar file; check the path.")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = {path.name: path for path in files}
    paths |= {path.relative_to(folder).as_posix(): path for path in files}
    return set(paths), lambda name: read_image(paths[name])


def _open_tar(path: Path) -> tuple[set[str], Read]:
    """Names in an uncompressed tar file; its pictures are read at their offsets."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isfile()]
    except (OSError, tarfile.TarError) as exc:
        raise InputError(
            f"{path} cannot be read as an uncompressed tar file ({exc}); unpack it into a folder."
        ) from exc
    places = {PurePosixPath(m.name).name: (m.offset_data, m.size) for m in members}
    places |= {m.name.removeprefix("./"): (m.offset_data, m.size) for m in members}

    def read(name: str) -> Pixels:
        offset, size = places[name]
        with path.open("rb") as file:
            content = os.pread(file.fileno(), size, offset)
        return _decode(content, name=f"{name} in {path}")

    return set(places), read


def _decode(content: bytes, *, name: str) -> Pixels:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise InputError(f"{name} is not an image that can be read; replace or remove it.") from exc

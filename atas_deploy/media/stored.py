"""Pictures by name, in a folder or in a tar file."""

import io
import os
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import read_image

Pixels = npt.NDArray[np.uint8]
_Load = Callable[[], Pixels]


class StoredPictures:
    """Files that are decoded when they are asked for.

    A file is known by its path inside the folder or tar file and, if no other has it, by its last
    part alone.

    Attributes:
        names: both.
    """

    def __init__(self, path: Path, files: dict[str, _Load]) -> None:
        """Take the files of a folder or tar file by their paths in it; see `open_stored`."""
        self._path, self._files = path, files
        self._paths: dict[str, list[str]] = defaultdict(list)
        for inside in files:
            self._paths[PurePosixPath(inside).name].append(inside)
        self.names = {*files, *self._paths}

    def check(self, names: Iterable[str]) -> None:
        """Refuse names that more than one file has.

        Raises:
            InputError: there is one.
        """
        for name in names:
            self._find(name)

    def read(self, name: str) -> Pixels:
        """Decode a picture: (H, W, 3) uint8 RGB.

        Args:
            name: one of `names`.

        Raises:
            InputError: it is no picture, or more than one file has the name.
        """
        return self._find(name)()

    def _find(self, name: str) -> _Load:
        if (file := self._files.get(name)) is not None:
            return file
        paths = self._paths[name]
        if len(paths) > 1:
            raise InputError(
                f"{self._path} has {len(paths)} files named {name} ({paths[0]}, {paths[1]}); name "
                "them by their paths, or remove all but one."
            )
        return self._files[paths[0]]


def open_stored(path: Path) -> StoredPictures:
    """Open a folder (searched below, too) or an uncompressed tar file.

    Raises:
        InputError: it is neither.
    """
    return StoredPictures(path, _in_tar(path) if path.is_file() else _in_folder(path))


def _in_folder(folder: Path) -> dict[str, _Load]:
    if not folder.is_dir():
        raise InputError(f"{folder} is neither a folder of images nor a tar file; check the path.")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): partial(read_image, path) for path in files}


def _in_tar(path: Path) -> dict[str, _Load]:
    """Files in an uncompressed tar file, read at their offsets; of one path the last counts."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isfile()]
    except (OSError, tarfile.TarError) as exc:
        raise InputError(
            f"{path} cannot be read as an uncompressed tar file ({exc}); unpack it into a folder."
        ) from exc
    return {
        member.name.removeprefix("./"): partial(_read_member, path, member) for member in members
    }


def _read_member(path: Path, member: tarfile.TarInfo) -> Pixels:
    with path.open("rb") as file:
        content = os.pread(file.fileno(), member.size, member.offset_data)
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise InputError(
            f"{member.name} in {path} is not an image that can be read; replace or remove it."
        ) from exc

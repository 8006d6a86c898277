"""Pictures by name, in a folder or in a tar file."""

import os
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import decode_image, read_image

Pixels = npt.NDArray[np.uint8]
_Load = Callable[[], Pixels]
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """A file in a tar file.

    Attributes:
        name: its path in it.
        start: where its content begins, in bytes.
        size: how many bytes it has.
    """

    name: str
    start: int
    size: int


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


def tar_members(path: Path) -> Iterator[Member]:
    """List the files in an uncompressed tar file, in one pass over its headers.

    Raises:
        InputError: it is missing, compressed, damaged, cut off or no tar file.
    """
    try:
        with path.open("rb") as file:
            _check_unpacked(path, file)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it would only grow
                    if member.isfile():
                        name = member.name.removeprefix("./")
                        yield Member(name, member.offset_data, member.size)
                if os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset).strip(b"\0"):
                    raise tarfile.ReadError(f"damaged header at byte {tar.offset}")
    except (OSError, tarfile.TarError) as exc:
        raise InputError(
            f"{path} cannot be read as an uncompressed tar file ({exc}); copy it again, or unpack "
            "it into a folder."
        ) from exc


def read_member(path: Path, member: Member) -> Pixels:
    """Decode a picture in a tar file: (H, W, 3) uint8 RGB, see `read_image`.

    Raises:
        InputError: the tar file cannot be read, or the member is no picture.
    """
    try:
        with path.open("rb") as file:
            content = os.pread(file.fileno(), member.size, member.start)
    except OSError as exc:
        raise InputError(
            f"{path} cannot be read ({exc.strerror}), expected a tar file: check the path and its "
            "permissions."
        ) from exc
    return decode_image(content, name=f"{path}:{member.name}")


def _check_unpacked(path: Path, file: BinaryIO) -> None:
    head = os.pread(file.fileno(), 5, 0)
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            raise InputError(
                f"{path} is compressed ({kind}), expected an uncompressed tar file, whose members "
                "can be read one by one; unpack it."
            )


def _in_tar(path: Path) -> dict[str, _Load]:
    """Files in an uncompressed tar file, read at their offsets; of one path the last counts."""
    return {member.name: partial(read_member, path, member) for member in tar_members(path)}

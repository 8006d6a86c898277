"""Images to train on, by number: files in folders, globs and lists, and members of tar shards.

Opening lists names only. They are held as bytes in one piece, so that worker processes share them:
counting references to a million strings would copy them page by page.
"""

import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import IMAGE_SUFFIXES, is_image, read_image
from atas_deploy.media.stored import Member, read_member, tar_members
from atas_deploy.media.walk import Root, check_path, make_root, real_path, walk

Pixels = npt.NDArray[np.uint8]

_TAR = re.compile(r"\.(tar|tar\.(gz|bz2|xz|zst)|tgz)$", re.IGNORECASE)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_HIDDEN = re.compile(r"(^|/)\.(?!\.?/)")
_LIST_SUFFIX = ".txt"
_NO_TAR = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageSource:
    """Images that are decoded when they are asked for; made by `open_images`.

    N images

    Attributes:
        text: paths of all images, one behind the other; of a member of a tar file its path in it.
        ends: (N,) int64, where in `text` each ends.
        tars: paths of the tar files.
        tar: (N,) int64, which of them each image is in, -1 for a file of its own.
        start: (N,) int64, where in its tar file each begins, in bytes.
        size: (N,) int64, how many bytes of it each has.
    """

    text: bytes
    ends: npt.NDArray[np.int64]
    tars: tuple[str, ...]
    tar: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.ends)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be made again."""
        return {key: value for key, value in self.__dict__.items() if key != "names"}

    @cached_property
    def names(self) -> list[str]:
        """A name for each image, unlike all others: its path, or that of its tar file:its own."""
        return [self._name(index) for index in range(len(self))]

    def read(self, index: int) -> Pixels:
        """Decode an image: (H, W, 3) uint8 RGB, see `read_image`.

        Raises:
            InputError: it cannot be read.
        """
        if (tar := int(self.tar[index])) == _NO_TAR:
            return read_image(self._path(index))
        member = Member(self._path(index), int(self.start[index]), int(self.size[index]))
        return read_member(Path(self.tars[tar]), member)

    def real(self, index: int) -> str:
        """Where an image is, without links, whatever the user called it."""
        if (tar := int(self.tar[index])) == _NO_TAR:
            return _real_file(self._path(index))
        return f"{_real_file(self.tars[tar])}:{self._path(index)}"

    def _name(self, index: int) -> str:
        tar, path = int(self.tar[index]), self._path(index)
        return path if tar == _NO_TAR else f"{self.tars[tar]}:{path}"

    def _path(self, index: int) -> str:
        begin = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.text[begin : int(self.ends[index])])


def open_images(sources: Sequence[str]) -> ImageSource:
    """Find all images that a user named; their order depends on names alone.

    Args:
        sources: any number of
            folders: images in them and below, by suffix; hidden ones, results of earlier runs and
                folders that are links are left out,
            globs: images and tar files that they match,
            list files, ending in .txt: an image or tar file a line, relative to the list,
            uncompressed tar files, such as WebDataset's: images in them, by suffix; hidden ones are
                left out,
            images.
            A range in braces stands for each of its numbers, as in shard-{0000..0099}.tar.

    Raises:
        InputError: one of them is missing, cannot be read or holds no image, or an image is named
            twice.
    """
    if not sources:
        raise InputError("No images were given: name a folder, a glob, a list file or tar files.")
    index = _Index()
    for asked in sources:
        for source in _expanded(asked):
            _add(index, source)
    found = index.source()
    _check_unlike(found, np.frombuffer(index.hashes, np.int64))
    return found


@dataclass
class _Index:
    """Grows by one image at a time; see `ImageSource`."""

    text: bytearray = field(default_factory=bytearray)
    tars: list[str] = field(default_factory=list)
    ends: "array[int]" = field(default_factory=lambda: array("q"))
    tar: "array[int]" = field(default_factory=lambda: array("q"))
    start: "array[int]" = field(default_factory=lambda: array("q"))
    size: "array[int]" = field(default_factory=lambda: array("q"))
    hashes: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, path: str, *, real: str, start: int = 0, size: int = 0, tar: int = -1) -> None:
        """Take an image, `real` as in `ImageSource.real`."""
        self.text += os.fsencode(path)
        columns = (self.ends, self.tar, self.start, self.size, self.hashes)
        values = (len(self.text), tar, start, size, hash(real))
        for column, value in zip(columns, values, strict=True):
            column.append(value)

    def source(self) -> ImageSource:
        return ImageSource(
            text=bytes(self.text),
            ends=np.frombuffer(self.ends, np.int64),
            tars=tuple(self.tars),
            tar=np.frombuffer(self.tar, np.int64),
            start=np.frombuffer(self.start, np.int64),
            size=np.frombuffer(self.size, np.int64),
        )


def _add(index: _Index, asked: str) -> None:
    """Take what one source stands for.

    Raises:
        InputError: that is nothing.
    """
    before = len(index.ends)
    if not asked:
        raise InputError("A name of images is empty: name a folder, a glob, a list or tar files.")
    check_path(asked)
    if root := make_root(asked):
        _add_root(index, root)
    elif asked.lower().endswith(_LIST_SUFFIX):
        _add_list(index, Path(asked))
    else:
        _check_file(asked)
        _add_file(index, asked, real=_real_file(asked))
    if len(index.ends) == before:
        raise _nothing_in(asked)


def _add_root(index: _Index, root: Root) -> None:
    """Take what is in a folder, or what a glob matches, by suffix."""

    def wanted(name: str) -> bool:
        return _is_image_name(name) or (not root.is_folder and bool(_TAR.search(name)))

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise InputError(
                f"The folder {error.filename} cannot be read ({error.strerror}): check its "
                "permissions."
            ) from error

    told = replace(root, by_name=root.is_folder)
    for place, files in walk(told, name="", wanted=wanted, failed=failed):
        folder = str(Path(place.path))
        for file in files:
            _add_file(index, _join(folder, file), real=f"{place.real}/{file}")


def _add_list(index: _Index, path: Path) -> None:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(
            f"{path} cannot be read ({exc}), expected a UTF-8 list of images, one a line: check "
            "the path and the file."
        ) from exc
    beside, words = str(path.parent), (line.strip() for line in lines)
    entries = [_join(beside, word.removeprefix("./")) for word in words if word]
    if missing := _missing(entries):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"{path} names {missing[0]}{more}, which does not exist: correct or remove the line; "
            "paths are relative to the list."
        )
    folders: dict[str, str] = {}
    for entry in entries:
        folder, file = os.path.split(entry)
        if folder not in folders:
            folders[folder] = real_path(folder)
        _add_file(index, entry, real=f"{folders[folder]}/{file}")


def _add_file(index: _Index, path: str, *, real: str) -> None:
    """Take a file as an image, or what is in it if it is called a tar file."""
    if not _TAR.search(path):
        index.add(path, real=real)
        return
    index.tars.append(path)
    own = len(index.tars) - 1
    for name, start, size in tar_members(Path(path)):
        if _is_image_name(name) and not _HIDDEN.search(name):
            index.add(name, real=f"{real}:{name}", start=start, size=size, tar=own)


def _expanded(asked: str) -> Iterator[str]:
    """Put each number in the place of a range in braces."""
    match = _RANGE.search(asked)
    if match is None or os.path.lexists(asked):
        yield asked
        return
    first, last = match.groups()
    if int(first) > int(last):
        raise InputError(f"{asked} counts down from {first} to {last}: put the smaller one first.")
    for number in range(int(first), int(last) + 1):
        shown = f"{number:0{len(first)}d}"
        yield from _expanded(f"{asked[: match.start()]}{shown}{asked[match.end() :]}")


def _check_file(asked: str) -> None:
    if not os.path.lexists(asked):
        raise InputError(
            f"{asked} does not exist: name a folder, a glob, a list of images (.txt) or tar files."
        )
    if not (_TAR.search(asked) or _is_image_name(asked) or is_image(Path(asked))):
        raise InputError(
            f"{asked} is no image, list of images (.txt) or tar file (.tar) that can be read here: "
            "convert it or leave it out."
        )


def _missing(paths: Sequence[str]) -> list[str]:
    """Files that are not there; folders are listed, as asking for each file takes long."""
    listed: dict[str, frozenset[str]] = {}
    missing = []
    for path in paths:
        folder, file = os.path.split(path)
        if folder not in listed:
            listed[folder] = _list(folder)
        if file not in listed[folder] and not os.path.lexists(path):
            missing.append(path)
    return missing


def _list(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder or "."))  # noqa: PTH208
    except OSError:
        return frozenset()


def _check_unlike(source: ImageSource, hashes: npt.NDArray[np.int64]) -> None:
    """Refuse an image that was named twice, by hashes first, as names would fill the memory."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(np.diff(hashes[order]) == 0)
    for first, second in sorted(zip(order[same].tolist(), order[same + 1].tolist(), strict=True)):
        if source.real(first) == source.real(second):
            one, other = source.names[first], source.names[second]
            also = "" if one == other else f", also as {other}"
            raise InputError(f"{one} is given twice{also}: leave one of them out.")


def _nothing_in(asked: str) -> InputError:
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    what = f"files ending in {suffixes} are looked for"
    if os.path.isdir(asked):  # noqa: PTH112
        shards = Path(asked) / "*.tar"
        return InputError(
            f"The folder {asked} holds no image ({what}): check the path, or name tar files by a "
            f"glob such as '{shards}'."
        )
    if asked.lower().endswith(_LIST_SUFFIX):
        return InputError(f"{asked} names no image: write one path a line.")
    if os.path.lexists(asked):
        return InputError(f"{asked} holds no image ({what}): check what is in it.")
    return InputError(f"The glob {asked!r} matches no image or tar file ({what}): check it.")


def _is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def _join(folder: str, file: str) -> str:
    return file if folder == "." else os.path.join(folder, file)  # noqa: PTH118


def _real_file(path: str) -> str:
    """Resolve links to a file's folder, not the file if it is one: a link is a file of its own."""
    folder, file = os.path.split(path)
    return f"{real_path(folder)}/{file}"

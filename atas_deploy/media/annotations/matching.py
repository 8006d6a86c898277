"""Which entry of a file belongs to which picture.

A name in a file may be a path on another machine, so paths are compared from their end. A name that
only one entry has is enough, whatever its folders. Of several entries with a name, that is meant
which has the most folders in common with the picture, one at least; where two have as many, none is
guessed.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations.faults import Faults
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.naming import stem
from atas_deploy.media.walk import RESULT_FOLDERS

_MOST_DIGITS = 8  # of the number of a frame
_ROLES = {"annotations", "images", "labels", "masks"}  # folders that tell what, not which

Key = tuple[str, ...]  # a name and its folders, the last one first


@dataclass(frozen=True, slots=True)
class Found:
    """An entry for a picture.

    Attributes:
        index: of the entry.
        asker: what asked for it.
        common: how many parts of both paths are the same.
    """

    index: int
    asker: str
    common: int


class Entries(ABC):
    """The pictures that a file has something for; each entry belongs to one picture.

    Attributes:
        path: of the file.
        shown: names of the entries in messages.
        faults: entries that went to a picture before the one that they fit better.
    """

    def __init__(self, path: Path, shown: Sequence[str]) -> None:
        """Entries of a file, by the names that messages give them."""
        self.path = path
        self.shown = shown
        self.faults = Faults()
        self._owners: dict[int, Found] = {}

    def find(self, picture: Picture) -> int | None:
        """Index of the entry of a picture; None if there is none.

        Raises:
            AnnotationError: the name is not enough to tell, or the entry is another picture's.
        """
        if (found := self.look_up(picture)) is None:
            return None
        owner = self._owners.setdefault(found.index, found)
        if owner.asker == found.asker:
            return found.index
        entry = self.shown[found.index]
        if found.common <= owner.common:
            raise AnnotationError(
                f'{self.path}: "{entry}" may be {owner.asker} or {found.asker}: name the pictures '
                "there by their folders, too, or give one folder at a time"
            )
        self._owners[found.index] = found
        self.faults.note(
            f'{self.path}: "{entry}" is {found.asker}, but {owner.asker}, which was asked for '
            "first, got its regions, too: name the pictures there by their folders, too"
        )
        return found.index

    def unmatched(self) -> list[str]:
        """What was never found."""
        return [name for i, name in enumerate(self.shown) if i not in self._owners]

    @abstractmethod
    def look_up(self, picture: Picture) -> Found | None:
        """The entry of a picture, whoever has asked for it; None if there is none.

        Raises:
            AnnotationError: the name is not enough to tell.
        """
        ...


class NamedEntries(Entries):
    """Entries with file names: by the whole name, then its last part, then that without suffix.

    A frame of a video is an entry named by its number in a folder named like the video, as in
    "clip/000012.png", or else that of the video itself.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Entries of a file, by their names.

        Raises:
            AnnotationError: two are the same.
        """
        super().__init__(path, names)
        self._by_path: dict[Key, int] = {}
        keys = []
        for i, parts in enumerate(map(_parts, names)):
            if self._by_path.setdefault(parts, i) != i:
                raise AnnotationError(
                    f'{path}: the picture "{names[i]}" is listed twice: remove or rename one'
                )
            keys.append(_key(parts))
        self._by_name = _Index((key, i) for i, key in enumerate(keys))
        self._by_stem = _Index((_stemmed(key), i) for i, key in enumerate(keys))

    def look_up(self, picture: Picture) -> Found | None:
        """See `Entries`."""
        if picture.frame is not None and (frame := self._find_frame(picture)) is not None:
            return frame
        return self._find_name(picture)

    def _find_name(self, picture: Picture) -> Found | None:
        parts = _parts(picture.name)
        if (exact := self._by_path.get(parts)) is not None:
            return Found(exact, picture.name, len(parts) + 1)
        key = _key(parts)
        common, fitting = self._by_name.nearest(key)
        if common < 2:
            by_stem, alike = self._by_stem.nearest(_stemmed(key))
            if by_stem > common:
                common, fitting = by_stem, alike
        return self._only(picture, picture.name, common, fitting)

    def _find_frame(self, picture: Picture) -> Found | None:
        video, *folders = _key(_parts(picture.name))
        best, candidates = 0, set[int]()
        for number in {f"{picture.frame:0{digits}d}" for digits in range(1, _MOST_DIGITS + 1)}:
            for name in {video, stem(video)}:
                common, fitting = self._by_stem.nearest((number, name, *folders))
                if common == 1:  # not the video's folder: only what is in none can be meant
                    fitting = [i for i in fitting if len(_key(_parts(self.shown[i]))) == 1]
                if common >= best:
                    candidates = {*fitting} if common > best else {*fitting, *candidates}
                    best = common
        return self._only(picture, str(picture), best, sorted(candidates))

    def _only(
        self, picture: Picture, asker: str, common: int, fitting: Sequence[int]
    ) -> Found | None:
        """The one entry that fits, or none.

        Raises:
            AnnotationError: several do.
        """
        if len(fitting) > 1:
            raise AnnotationError(
                f'{self.path}: {picture} may be "{self.shown[fitting[0]]}" or '
                f'"{self.shown[fitting[1]]}": name the input by a longer path, as it is written '
                "there"
            )
        return Found(fitting[0], asker, common) if fitting else None


class _Index:
    """Entries in the order of their keys, so that those that begin alike stand together."""

    def __init__(self, entries: Iterable[tuple[Key, int]]) -> None:
        ordered = sorted(entries)
        self._keys = [key for key, _ in ordered]
        self._entries = [index for _, index in ordered]

    def nearest(self, key: Key) -> tuple[int, list[int]]:
        """The entries, two at most, that have most in common with a key, and how many parts."""
        at = bisect_left(self._keys, key)
        beside = self._keys[max(at - 1, 0) : at + 1]
        common = max((_common(key, other) for other in beside), default=0)
        if not common:
            return 0, []
        fitting = list(islice(self._alike(key[:common]), 2))
        if common == 1 and len(key) > 1 and len(fitting) > 1:  # other folders: what has none
            fitting = [i for i in fitting if len(self._keys[i]) == 1]
        if len(fitting) > 1 and len(self._keys[fitting[0]]) == common < len(self._keys[fitting[1]]):
            fitting = fitting[:1]  # the other one has folders that the picture has not
        return common if fitting else 0, sorted(self._entries[i] for i in fitting)

    def _alike(self, start: Key) -> Iterator[int]:
        """Places of the keys that begin so, the shortest first."""
        at = bisect_left(self._keys, start)
        while at < len(self._keys) and self._keys[at][: len(start)] == start:
            yield at
            at += 1


class NumberedEntries(Entries):
    """Entries with a number: of a frame of a video, or of a picture whose name is a number."""

    def __init__(self, path: Path, numbers: Sequence[int], *, noun: str, first: int = 0) -> None:
        """Entries of a file.

        Args:
            path: of the file.
            numbers: theirs, all different.
            noun: what a number is called there.
            first: number of the first frame of a video.
        """
        super().__init__(path, [f"{noun} {number}" for number in numbers])
        self._index = {number: i for i, number in enumerate(numbers)}
        self._first, self._noun = first, noun

    def look_up(self, picture: Picture) -> Found | None:
        """See `Entries`."""
        index = self._index.get(self._number(picture))
        return None if index is None else Found(index, str(picture), 1)

    def _number(self, picture: Picture) -> int:
        if picture.frame is not None:
            return picture.frame + self._first
        name = stem(_parts(picture.name)[-1])
        if not (name.isascii() and name.isdigit()):
            raise AnnotationError(
                f"{self.path} tells pictures by {self._noun} only, and the name of {picture.name} "
                "is no number: name the pictures by their numbers, or use a format with file names"
            )
        return int(name)


def files_below(path: Path, suffix: str) -> tuple[list[Path], list[str]]:
    """The files of a suffix, also in capitals, in a folder and below, and their names there.

    A path that is no folder is the only one. Hidden files do not count.
    """
    if not path.is_dir():
        return [path], [str(path)]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.casefold() == suffix and not file.name.startswith(".") and file.is_file()
    )
    return files, [file.relative_to(path).as_posix() for file in files]


def _parts(name: str) -> Key:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", ".")) or ("",)


def _key(parts: Key) -> Key:
    """The parts that tell pictures apart, from the last one on."""
    *folders, name = parts
    plain = [folder.removesuffix(RESULT_FOLDERS[0]) for folder in reversed(folders)]
    return name, *(folder for folder in plain if folder.casefold() not in _ROLES)


def _stemmed(key: Key) -> Key:
    return stem(key[0]), *key[1:]


def _common(one: Key, other: Key) -> int:
    """How many parts are the same, from the first one on."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count

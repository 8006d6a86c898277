"""Which entry of a file belongs to which picture.

A name in a file may be a path on another machine, so names are compared from their end: the entry
that has the most folders in common with the picture is meant, and where two have as many, none is
guessed.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations.picture import Picture
from atas_deploy.media.naming import stem
from atas_deploy.media.walk import RESULT_FOLDERS

_MOST_DIGITS = 8  # of the number of a frame

Found = tuple[int, str]  # index of an entry, and what asked for it


class Entries(ABC):
    """The pictures that a file has something for; each entry belongs to one picture."""

    def __init__(self, path: Path, shown: Sequence[str]) -> None:
        """Entries of a file, by the names that messages give them."""
        self.path = path
        self.shown = shown
        self._owners: dict[int, str] = {}

    def find(self, picture: Picture) -> int | None:
        """Index of the entry of a picture; None if there is none.

        Raises:
            AnnotationError: the name is not enough to tell.
        """
        if (found := self._look_up(picture)) is None:
            return None
        index, asker = found
        owner = self._owners.setdefault(index, asker)
        if owner != asker:
            raise AnnotationError(
                f'{self.path}: "{self.shown[index]}" may be {owner} or {asker}: name the pictures '
                "there by their folders, too, or give one folder at a time"
            )
        return index

    def unmatched(self) -> list[str]:
        """What was never found."""
        return [name for i, name in enumerate(self.shown) if i not in self._owners]

    @abstractmethod
    def _look_up(self, picture: Picture) -> Found | None: ...


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
        self._parts = [_parts(name) for name in names]
        self._by_path: dict[tuple[str, ...], int] = {}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        for i, parts in enumerate(self._parts):
            if self._by_path.setdefault(parts, i) != i:
                raise AnnotationError(
                    f'{path}: the picture "{names[i]}" is listed twice: remove or rename one'
                )
            self._by_name[parts[-1]].append(i)
            self._by_stem[stem(parts[-1])].append(i)

    def _look_up(self, picture: Picture) -> Found | None:
        if picture.frame is not None and (index := self._find_frame(picture)) is not None:
            return index, str(picture)
        index = self._find_name(picture)
        return None if index is None else (index, picture.name)

    def _find_name(self, picture: Picture) -> int | None:
        parts = _parts(picture.name)
        if (exact := self._by_path.get(parts)) is not None:
            return exact
        named = self._by_name.get(parts[-1]) or self._by_stem.get(stem(parts[-1]), [])
        return self._nearest(picture, parts[:-1], named, above=1)

    def _find_frame(self, picture: Picture) -> int | None:
        parts = _parts(picture.name)
        candidates = []
        for number in {f"{picture.frame:0{digits}d}" for digits in range(1, _MOST_DIGITS + 1)}:
            for i in self._by_stem.get(number, []):
                folder = self._parts[i][-2:-1]
                video = (parts[-1], stem(parts[-1]))
                if not folder or folder[0].removesuffix(RESULT_FOLDERS[0]) in video:
                    candidates.append(i)
        return self._nearest(picture, parts[:-1], candidates, above=2)

    def _nearest(
        self, picture: Picture, folders: tuple[str, ...], candidates: list[int], *, above: int
    ) -> int | None:
        """The candidate whose folders, `above` its end, have most in common with the picture's."""
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        common = [_common(folders, self._parts[i][:-above]) for i in candidates]
        best = [i for i, count in zip(candidates, common, strict=True) if count == max(common)]
        if len(best) > 1:
            raise AnnotationError(
                f'{self.path}: {picture} may be "{self.shown[best[0]]}" or '
                f'"{self.shown[best[1]]}": name the input by a longer path, as it is written there'
            )
        return best[0]


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

    def _look_up(self, picture: Picture) -> Found | None:
        index = self._index.get(self._number(picture))
        return None if index is None else (index, str(picture))

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

    A path that is no folder is the only one.
    """
    if not path.is_dir():
        return [path], [str(path)]
    files = sorted(file for file in path.rglob("*") if file.suffix.casefold() == suffix)
    return files, [file.relative_to(path).as_posix() for file in files]


def _parts(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", ".")) or ("",)


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many folders are the same, counted from the end."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count

"""Walking folders and globs one folder at a time: memory does not grow with what was passed.

A folder is the glob ``folder/**``: the parts of a pattern are matched while walking down, so that
each folder is listed once, however many ``**`` there are. Links to folders are followed where a
part of the pattern other than ``**`` names them; so links in circles end.
"""

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from atas_deploy.core.errors import InputError
from atas_deploy.core.files import PART_SUFFIX
from atas_deploy.media.naming import unique_names

ANY_DEPTH = "**"
RESULT_SUFFIXES = (".labels.png", ".overlay.jpg", ".overlay.mp4", ".overlay.png", ".visual.png")
"""Ends of the names of pictures and videos that a run writes."""

RESULT_FOLDERS = (".masks", ".visual", PART_SUFFIX)
"""Ends of the names of folders that a run writes: masks of a video, also unfinished, and maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder on the way.

    Attributes:
        path: As the user would write it.
        real: Absolute, without links.
        name: What the names of its files begin with, "" or ending in "/".
        states: Numbers of the parts of the pattern that its entries may match.
    """

    path: str
    real: str
    name: str
    states: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A folder or a glob to walk.

    Attributes:
        asked: The input, as the user wrote it.
        title: What a sentence about it begins with.
        path: Its folders before the first wildcard, as the user wrote them.
        real: The same, absolute, without links.
        parts: Patterns of the folders below and, last, of the files.
        apart: Real folders that are not entered: results, and folders that are inputs themselves.
        by_name: Whether what is named like a result is left out: in folders, also the results of
            other runs; in globs, only where they lie among the inputs.
    """

    asked: str
    title: str
    path: str
    real: str
    parts: tuple[str, ...]
    apart: frozenset[str] = frozenset()
    by_name: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether everything below is wanted, rather than what a glob matches."""
        return self.parts == (ANY_DEPTH,)

    def start(self, name: str) -> Place:
        """Return the top of the walk, under a name."""
        return Place(path=self.path, real=self.real, name=name, states=self._reached({0}))

    def enter(self, states: frozenset[int], name: str, real: str) -> frozenset[int]:
        """Return what the entries of a folder may match; nothing means that it is not entered.

        Args:
            states: What the folder itself, as an entry, may match.
            name: Its name.
            real: Its real path, or "" for a link.
        """
        if real in self.apart or (self.by_name and name.endswith(RESULT_FOLDERS)):
            return frozenset()
        matched = {state for state in states if _matches(name, self.parts[state])}
        below = {state for state in matched if self.parts[state] == ANY_DEPTH and real}
        further = {state + 1 for state in matched if self.parts[state] != ANY_DEPTH}
        return self._reached(below | further - {len(self.parts)})

    def takes(self, states: frozenset[int], name: str) -> bool:
        """Tell whether a file is wanted, by its name."""
        last = len(self.parts) - 1
        if last not in states or not _matches(name, self.parts[last]):
            return False
        return not (self.by_name and name.endswith(RESULT_SUFFIXES))

    def states_at(self, real: str) -> frozenset[int]:
        """Return what the entries of a folder may match if reached without links, else nothing."""
        if not Path(real).is_relative_to(self.real):
            return frozenset()
        states, place = self._reached({0}), self.real
        for part in Path(real).relative_to(self.real).parts:
            place = os.path.join(place, part)  # noqa: PTH118
            states = self.enter(states, part, place)
        return states

    def _reached(self, states: set[int]) -> frozenset[int]:
        """Add what may be matched at once, as ``**`` may stand for no folder at all."""
        reached = set(states)
        for state in range(len(self.parts) - 1):
            if state in reached and self.parts[state] == ANY_DEPTH:
                reached.add(state + 1)
        return frozenset(reached)


def make_root(asked: str) -> Root | None:
    """Make the root of a folder, or of a glob at its folders before the first wildcard.

    Returns:
        The root, or None if the input is neither.

    Raises:
        InputError: If the current folder is gone.
    """
    # os.path, since Path raises on names that are too long for the system
    if os.path.isdir(asked):  # noqa: PTH112
        return Root(
            asked=asked,
            title=f"The folder {asked}",
            path=asked,
            real=real_path(asked),
            parts=(ANY_DEPTH,),
        )
    if not glob.has_magic(asked) or os.path.lexists(asked):
        return None
    parts = Path(asked).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    path = str(Path(*parts[:fixed]))
    return Root(
        asked=asked,
        title=f"The glob {asked!r}",
        path=path,
        real=real_path(path),
        parts=parts[fixed:],
    )


def check_path(text: str) -> None:
    """Refuse what no file can be called.

    Raises:
        InputError: If it holds a NUL or characters that the file system cannot write.
    """
    try:
        os.stat(text)  # noqa: PTH116
    except OSError:
        pass  # missing or not: it is a path
    except ValueError as error:
        raise InputError(f"{text!r} cannot be a path ({error}): check its characters") from error


def real_path(path: Path | str) -> str:
    """Resolve links; unlike `Path.resolve`, links that go round in circles are no error.

    Raises:
        InputError: If the path is relative and the current folder is gone.
    """
    try:
        return os.path.realpath(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be found ({error.strerror}): the current folder is gone, change to "
            "another one"
        ) from error


def walk(
    root: Root, *, name: str, wanted: Callable[[str], bool], failed: Callable[[OSError], None]
) -> Iterator[tuple[Place, list[str]]]:
    """List folder after folder in a stable order, before the folders in it.

    Args:
        root: Where to walk.
        name: What the names of all files begin with, "" or ending in "/".
        wanted: Tells by its name whether a file may be listed.
        failed: Told of folders that cannot be listed.

    Yields:
        A folder and the sorted names of the files taken; these names are all that is held.
    """
    waiting = [iter((root.start(name),))]
    while waiting:
        place = next(waiting[-1], None)
        if place is None:
            waiting.pop()
            continue
        try:
            files, folders = _list(place, root, wanted)
        except OSError as error:
            failed(error)
            continue
        waiting.append(_below(place, root, folders))
        yield place, files


def _list(
    place: Place, root: Root, wanted: Callable[[str], bool]
) -> tuple[list[str], list[tuple[str, bool]]]:
    """List a folder: its files, and its folders and whether each is a link."""
    files, folders = [], []
    with os.scandir(place.path) as entries:
        for entry in entries:
            if _is_folder(entry):
                link = entry.is_symlink()
                real = "" if link else os.path.join(place.real, entry.name)  # noqa: PTH118
                if root.enter(place.states, entry.name, real):
                    folders.append((entry.name, link))
            elif wanted(entry.name) and root.takes(place.states, entry.name):
                files.append(entry.name)
    return sorted(files), sorted(folders)


def _below(place: Place, root: Root, folders: list[tuple[str, bool]]) -> Iterator[Place]:
    names = unique_names([folder for folder, _ in folders])
    for (folder, link), name in zip(folders, names, strict=True):
        path = os.path.join(place.path, folder)  # noqa: PTH118
        beside = os.path.join(place.real, folder)  # noqa: PTH118
        yield Place(
            path=path,
            real=os.path.realpath(path) if link else beside,
            name=f"{place.name}{name}/",
            states=root.enter(place.states, folder, "" if link else beside),
        )


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in circles
        return False


def _matches(name: str, pattern: str) -> bool:
    """Match as a shell does: hidden names only by patterns that begin with a dot."""
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return pattern == ANY_DEPTH or fnmatch(name, pattern)

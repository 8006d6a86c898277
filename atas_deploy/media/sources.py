"""Which files a run works on: from files, folders and globs to a list with unique names."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import IMAGE_SUFFIXES, check_readable, is_image
from atas_deploy.media.video.reader import VIDEO_SUFFIXES, is_video

Kind = Literal["image", "video"]

_RESULT_SUFFIXES = (".labels.png", ".overlay.jpg", ".overlay.mp4", ".overlay.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to work on.

    Attributes:
        path: Where it is.
        kind: Image or video.
        name: Where its results go, relative to the output folder and without suffix, as in
            "sub/photo"; unlike that of any other source of the run, also where case is ignored.
            It may hold dots: append to it rather than replace its suffix.
    """

    path: Path
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a user asked for and that cannot be used.

    Attributes:
        asked: The input, as the user wrote it.
        message: What is wrong with it, or with a folder in it, and what to do.
    """

    asked: str
    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the inputs of a run stand for.

    Attributes:
        sources: The files to work on, at least one.
        problems: What cannot be used, in the order of the inputs.
    """

    sources: tuple[Source, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    kind: Kind
    root: Path  # what the name is relative to


def find_sources(inputs: Sequence[str], *, exclude: Path | None = None) -> Found:
    """Find all media files that a user named; a bad input does not spoil the good ones.

    A folder stands for the images and videos in it and below, by suffix, hidden ones left out; a
    glob for those it matches. A file named outright is looked into if its suffix is unknown.

    Args:
        inputs: Files, folders and globs; ``**`` matches folders at any depth.
        exclude: A folder of earlier results, left out of folders and globs. Where it is searched
            itself, as it holds the inputs too, only files named like results are left out.

    Returns:
        The sources in the order of the inputs, those of a folder sorted, each file once; and as
        problems the inputs that are missing, hold no media, or are no image or video.

    Raises:
        InputError: If there is no source at all.
    """
    if not inputs:
        raise InputError("No input was given: name an image, a video, a folder or a glob")
    excluded = None if exclude is None else _real(exclude)
    found: dict[Path, _File] = {}
    problems: list[Problem] = []
    for asked in inputs:
        files, messages = _find(asked, excluded=excluded)
        for file in files:
            found.setdefault(_real(file.path), file)
        problems += [Problem(asked, message) for message in messages]
    if not found:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(problems[0].message + more)
    return Found(tuple(_named(list(found.values()))), tuple(problems))


def _find(asked: str, *, excluded: Path | None) -> tuple[list[_File], list[str]]:
    """List the files that an input stands for, and what is wrong with it."""
    path = Path(asked)
    problems: list[str] = []
    # os.path, since Path raises on names that are too long for the system
    if os.path.isdir(path):  # noqa: PTH112
        what, media = f"The folder {asked}", _media(_walk(path, problems), root=path)
    elif glob.has_magic(asked) and not os.path.exists(path):  # noqa: PTH110
        # The module, since Path.glob knows neither absolute patterns nor hidden files.
        matches = map(Path, sorted(glob.iglob(asked, recursive=True)))  # noqa: PTH207
        what, media = f"The glob {asked!r}", _media(matches, root=_fixed_part(path))
    else:
        try:
            return [_File(path, _sniff(path), path.parent)], []
        except InputError as error:
            return [], [str(error)]
    files = [file for file in media if not _is_result(file, excluded=excluded)]
    if not files and not problems:
        besides = " besides earlier results" if media else ""
        cure = "check the path and the file suffixes"
        problems.append(f"{what} holds no image or video{besides}: {cure}")
    return files, problems


def _walk(folder: Path, problems: list[str]) -> Iterator[Path]:
    """List the files below a folder in a stable order, hidden files and folders left out."""

    def note(error: OSError) -> None:
        problems.append(
            f"folder {error.filename} cannot be read ({error.strerror}): check its permissions"
        )

    for place, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place, name)


def _media(paths: Iterable[Path], *, root: Path) -> list[_File]:
    return [
        _File(path, kind, root)
        for path in paths
        if (kind := _kind_by_suffix(path)) and not os.path.isdir(path)  # noqa: PTH112
    ]


def _is_result(file: _File, *, excluded: Path | None) -> bool:
    """Tell results of an earlier run by their folder, or by name if inputs lie there too."""
    if excluded is None:
        return False
    if _real(file.root).is_relative_to(excluded):
        return file.path.name.endswith(_RESULT_SUFFIXES)
    return _real(file.path).is_relative_to(excluded)


def _real(path: Path) -> Path:
    """Resolve links; unlike `Path.resolve`, links that go round in circles are no error."""
    try:
        return Path(os.path.realpath(path))
    except OSError as error:
        raise InputError(
            f"{path} cannot be found ({error.strerror}): the current folder is gone, change to "
            "another one"
        ) from error


def _fixed_part(pattern: Path) -> Path:
    """Return the folders of a glob before its first wildcard."""
    fixed = Path()
    for part in pattern.parent.parts:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _kind_by_suffix(path: Path) -> Kind | None:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def _sniff(path: Path) -> Kind:
    """Tell the kind of a file named outright; errors of known kinds wait until it is read."""
    kind = _kind_by_suffix(path)
    if kind is not None and os.path.exists(path):  # noqa: PTH110
        return kind
    check_readable(path, kind="an image or a video")
    if is_image(path):
        return "image"
    if is_video(path):
        return "video"
    raise InputError(f"{path} is neither an image nor a video that can be read here: convert it")


def _named(found: Sequence[_File]) -> list[Source]:
    """Name each source by its stem; where stems clash keep suffixes, then count."""
    stems = [item.path.relative_to(item.root).with_suffix("").as_posix() for item in found]
    clashes = Counter(stem.casefold() for stem in stems)
    taken = {stem.casefold() for stem in stems if clashes[stem.casefold()] == 1}
    sources = []
    for item, stem in zip(found, stems, strict=True):
        name = stem
        if clashes[stem.casefold()] > 1:
            name = _free(item.path.relative_to(item.root).as_posix(), taken)
            taken.add(name.casefold())
        sources.append(Source(path=item.path, kind=item.kind, name=name))
    return sources


def _free(name: str, taken: set[str]) -> str:
    """Return the name, or the first of name-2, name-3 … that nobody has."""
    candidate, number = name, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate

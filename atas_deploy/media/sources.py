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
class _Found:
    path: Path
    kind: Kind
    root: Path  # what the name is relative to


def find_sources(inputs: Sequence[str], *, exclude: Path | None = None) -> list[Source]:
    """Find all media files that a user named.

    A folder stands for the images and videos in it and below, by suffix, hidden ones left out; a
    glob for those it matches. A file named outright is looked into if its suffix is unknown.

    Args:
        inputs: Files, folders and globs; ``**`` matches folders at any depth.
        exclude: A folder to leave out of folders and globs, such as that of earlier results.

    Returns:
        The sources in the order of the inputs, those of a folder sorted, each file once.

    Raises:
        InputError: If an input is missing, holds no media, or is no image or video.
    """
    if not inputs:
        raise InputError("no input was given: name an image, a video, a folder or a glob")
    excluded = exclude.resolve() if exclude else None
    found: dict[Path, _Found] = {}
    for text in inputs:
        for item in _find(text, excluded=excluded):
            found.setdefault(item.path.resolve(), item)
    return _named(list(found.values()))


def _find(text: str, *, excluded: Path | None) -> Iterator[_Found]:
    path = Path(text)
    if path.is_dir():
        yield from _some(_walk(path), root=path, excluded=excluded, asked=f"the folder {text}")
    elif glob.has_magic(text) and not path.exists():
        # The module, since Path.glob knows neither absolute patterns nor hidden files.
        matches = map(Path, sorted(glob.iglob(text, recursive=True)))  # noqa: PTH207
        yield from _some(matches, root=_fixed_part(path), excluded=excluded, asked=f"glob {text!r}")
    else:
        yield _Found(path, _sniff(path), path.parent)


def _walk(folder: Path) -> Iterator[Path]:
    """List the files below a folder in a stable order, hidden files and folders left out."""
    for place, folders, files in os.walk(folder, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place, name)


def _refuse_folder(error: OSError) -> None:
    raise InputError(
        f"folder {error.filename} cannot be read ({error.strerror}): check its permissions"
    ) from error


def _some(
    paths: Iterable[Path], *, root: Path, excluded: Path | None, asked: str
) -> Iterator[_Found]:
    """Keep the media files; there must be at least one."""
    count = 0
    for path in paths:
        kind = _kind_by_suffix(path)
        if kind is None or path.is_dir():
            continue
        if excluded is not None and path.resolve().is_relative_to(excluded):
            continue
        count += 1
        yield _Found(path, kind, root)
    if not count:
        raise InputError(f"{asked} holds no image or video: check the path and the file suffixes")


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
    if kind is not None and path.exists():
        return kind
    check_readable(path, kind="an image or a video")
    if is_image(path):
        return "image"
    if is_video(path):
        return "video"
    raise InputError(f"{path} is neither an image nor a video that can be read here: convert it")


def _named(found: Sequence[_Found]) -> list[Source]:
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

"""Which files and streams a run works on, and where the results of each go.

Files and streams named outright come first; folders and globs are walked while the run goes on, so
that a million files need no more memory than the names of the fullest folder.

Names, which decide where results go, depend on the command line and on one folder at a time:

- A file is named by its stem, where others of its folder share that (also in another case) by its
  whole name, then -2, -3 …; those named outright count as one folder. A stream is named by its
  address.
- Below a folder, names begin with the sub-folder, as in "sub/photo"; below a glob with what follows
  its first wildcard.
- Where a folder or glob is not the only input, its own name comes before, as in "photos/sub/photo";
  folders of the same name are photos, photos-2 … .
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atas_deploy.core.errors import InputError
from atas_deploy.media.live import is_address, is_live, redact
from atas_deploy.media.naming import stem, unique_names
from atas_deploy.media.outright import Kind, Outright, kind_by_suffix, name_outright
from atas_deploy.media.shards import Shard, check_shard, in_shard
from atas_deploy.media.walk import Root, check_path, make_root, real_path, walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file or stream to work on.

    Attributes:
        location: Where it is: the path of a file, or the address of a stream or camera, which may
            hold a password; see `redact`.
        kind: Image or video; streams and cameras are videos.
        name: Where its results go, relative to the output folder and without suffix, as in
            "sub/photo"; unlike that of any other source of the run, also where case is ignored.
            It may hold dots: append to it rather than replace its suffix.
    """

    location: Path | str
    kind: Kind
    name: str

    @property
    def live(self) -> bool:
        """Whether it is a stream or a camera, which gives its pictures only once."""
        return isinstance(self.location, str)

    @property
    def shown(self) -> str:
        """What messages and results call it: no password, and unlike any other source of a run."""
        safe = redact(self.location)
        return safe if safe == str(self.location) else f"{safe} ({self.name})"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a user asked for and that cannot be used.

    Attributes:
        asked: The input, as the user wrote it, without passwords.
        message: What is wrong with it, or with a folder in it, and what to do.
    """

    asked: str
    message: str


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a run; each iteration walks the folders anew, one folder at a time."""

    _walk: Callable[[], Iterator[Source]]

    def __iter__(self) -> Iterator[Source]:
        """Yield the sources: those named outright, then folder after folder, sorted."""
        return self._walk()


class Found:
    """What the inputs of a run stand for.

    Attributes:
        problems: What cannot be used so far; it grows while sources are iterated over or counted,
            and holds each problem once. Every shard tells all that it comes across, since what
            is missing on one machine may be there on another.
    """

    def __init__(self, inputs: Sequence[str], *, excluded: str | None, shard: Shard | None) -> None:
        """Look at the inputs, without walking any folder; see `find_sources`."""
        self.problems: list[Problem] = []
        self._noted: set[Problem] = set()
        self._excluded, self._shard = excluded, shard
        outright: dict[tuple[str, str], Outright] = {}
        roots: dict[tuple[str, tuple[str, ...]], Root] = {}
        for asked in inputs:
            try:
                if root := _root(asked):
                    roots.setdefault((root.real, root.parts), root)
                else:
                    named = name_outright(asked)
                    outright.setdefault(named.identity, named)
            except InputError as error:
                self._note(asked, str(error))
        self._outright = frozenset(outright)
        self._named = _named(list(outright.values()))
        self._roots = _rooted(list(roots.values()), alone=len(inputs) == 1, excluded=excluded)

    @property
    def sources(self) -> Sources:
        """The files and streams to work on, those of the shard only."""
        return Sources(self._sharded)

    def count(self) -> int | None:
        """Count the sources by their names, in a walk; None for streams alone, as they may not end.

        Files that come and go meanwhile make a later iteration differ.
        """
        if not self._roots and all(isinstance(source.location, str) for source in self._named):
            return None
        return sum(1 for _ in self._sharded())

    def raise_if_none(self) -> None:
        """Make sure of one source at least, in whichever shard.

        Raises:
            InputError: If there is none, with what is wrong with the first input.
        """
        if next(self._all(), None) is None:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise InputError(self.problems[0].message + more)

    def _sharded(self) -> Iterator[Source]:
        for source in self._all():
            if self._shard is None or in_shard(source.name, self._shard):
                yield source

    def _all(self) -> Iterator[Source]:
        yield from self._named
        for number, (root, name) in enumerate(self._roots):
            yield from self._below(root, name, earlier=[root for root, _ in self._roots[:number]])

    def _below(self, root: Root, name: str, *, earlier: Sequence[Root]) -> Iterator[Source]:
        """Walk a root, leaving out what is named outright or comes in an earlier root."""
        # Until there is a file, or a better reason why there is none.
        useless = not any(Path(real).is_relative_to(root.real) for real in self._within(root))

        def failed(error: OSError) -> None:
            nonlocal useless
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                useless = False
                self._note(root.asked, _unreadable(error))

        for place, files in walk(root, name=name, wanted=_is_media, failed=failed):
            useless = useless and not files
            rivals = [(rival, rival.states_at(place.real)) for rival in earlier]
            for file, own in zip(files, unique_names(files, short=stem), strict=True):
                kind = kind_by_suffix(file)
                done = (place.real, file) in self._outright or any(
                    rival.takes(states, file) for rival, states in rivals
                )
                if kind and not done:
                    yield Source(location=Path(place.path, file), kind=kind, name=place.name + own)
        if useless:
            self._note(root.asked, _nothing_in(root, excluded=self._excluded))

    def _within(self, root: Root) -> frozenset[str]:
        """Return the other named folders, which a folder leaves to themselves."""
        return root.apart - {self._excluded}

    def _note(self, asked: str, message: str) -> None:
        problem = Problem(redact(asked), message)
        if problem not in self._noted:
            self._noted.add(problem)
            self.problems.append(problem)


def find_sources(
    inputs: Sequence[str], *, exclude: Path | None = None, shard: Shard | None = None
) -> Found:
    """Find all media that a user named; a bad input does not spoil the good ones.

    A folder stands for the images and videos in it and below, by suffix; hidden ones, and folders
    that are links, are left out. A glob stands for the files it matches; ``**`` matches folders at
    any depth. A file named outright is looked into if its suffix is unknown. Streams and cameras
    are those of `is_live`.

    What several inputs stand for is done once: as the file named outright, else in the innermost of
    the folders named, else for the first input. A link is a file of its own.

    Args:
        inputs: Files, folders, globs and streams.
        exclude: A folder of earlier results, left out of folders and globs. Where it is searched
            itself, as it holds the inputs too, only files named like results are left out, as they
            are in every folder.
        shard: (i, n) leaves the i-th of n parts, see `parse_shard`; it may be empty. The name of a
            source alone decides.

    Returns:
        The sources, of which folders and globs are walked later, and the inputs that are missing,
        hold no media, or are no image or video, as far as known.

    Raises:
        ConfigError: If the shard is none.
        InputError: If there is no source at all, in any shard.
    """
    if not inputs:
        raise InputError("No input was given: name an image, a video, a folder or a glob")
    excluded = None if exclude is None else real_path(exclude)
    found = Found(inputs, excluded=excluded, shard=shard and check_shard(shard))
    found.raise_if_none()
    return found


def _root(asked: str) -> Root | None:
    """Return the root of a folder or a glob, None for what is named outright."""
    if not asked:
        raise InputError("An input is empty: name an image, a video, a folder or a glob")
    if is_live(asked) or is_address(asked):
        return None
    check_path(asked)
    return make_root(asked)


def _named(items: Sequence[Outright]) -> list[Source]:
    names = unique_names(items, short=lambda item: item.short, long=lambda item: item.long)
    return [
        Source(location=item.location, kind=item.kind, name=name)
        for item, name in zip(items, names, strict=True)
    ]


def _rooted(roots: Sequence[Root], *, alone: bool, excluded: str | None) -> list[tuple[Root, str]]:
    """Tell the roots what to leave out, and what the names of their files begin with."""
    folders = frozenset(root.real for root in roots if root.is_folder)
    names = unique_names(roots, short=_own_name, long=_own_name)
    rooted = []
    for root, name in zip(roots, names, strict=True):
        apart = folders - {root.real} if root.is_folder else frozenset()
        within = excluded is not None and Path(root.real).is_relative_to(excluded)
        if excluded is not None and not within:
            apart |= {excluded}
        told = replace(root, apart=apart, by_name=within or root.is_folder)
        rooted.append((told, "" if alone else f"{name}/"))
    return rooted


def _own_name(root: Root) -> str:
    return Path(root.real).name or "root"


def _is_media(file: str) -> bool:
    return kind_by_suffix(file) is not None


def _unreadable(error: OSError) -> str:
    return f"The folder {error.filename} cannot be read ({error.strerror}): check its permissions"


def _nothing_in(root: Root, *, excluded: str | None) -> str:
    inside = excluded is not None and Path(root.real).is_relative_to(excluded)
    beside = inside or (excluded is not None and Path(excluded).is_relative_to(root.real))
    results = " (results of earlier runs are left out)" if beside else ""
    cure = "check the path and the file suffixes"
    return f"{root.title} holds no image or video{results}: {cure}"

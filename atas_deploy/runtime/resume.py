"""Going on with a run that was stopped, failed in parts, or was killed at any moment."""

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from atas_deploy.core.files import atomic_path
from atas_deploy.runtime.derived import format_files
from atas_deploy.runtime.journal import encode, read_rows
from atas_deploy.runtime.options import FORMATS
from atas_deploy.runtime.run_files import FILE_KEYS, RunFiles, discard, discard_leftovers
from atas_deploy.runtime.tally import Tally

Row = dict[str, Any]


class DoneSources:
    """Sources that need not be done again, 8 bytes each.

    Two of a million share a hash with a probability of 3 in 100 million.
    """

    def __init__(self, hashes: npt.NDArray[np.uint64]) -> None:
        self._hashes = np.unique(hashes)

    @classmethod
    def named(cls, sources: Iterator[str]) -> Self:
        """Take in sources by name."""
        return cls(np.frombuffer(array("Q", map(_hash, sources)).tobytes(), np.uint64))

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, source: str) -> bool:
        value = np.uint64(_hash(source))
        i = int(np.searchsorted(self._hashes, value))
        return i < len(self._hashes) and bool(self._hashes[i] == value)

    def __or__(self, other: Self) -> "DoneSources":
        return DoneSources(np.concatenate([self._hashes, other._hashes]))


def _hash(source: str) -> int:
    data = source.encode(errors="surrogateescape")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def take_over(files: RunFiles, *, parts: Sequence[RunFiles] = ()) -> tuple[DoneSources, Tally]:
    """Make the journal of a run that goes on out of those that there are.

    It keeps the lines of images whose files exist, of videos that were finished, and of recordings
    of streams and cameras, however they ended. The others, failures too, are dropped together with
    their files: their sources are done again.

    Args:
        files: of the run that goes on.
        parts: of shards, and of items of workers, that become part of it.

    Returns:
        The sources that are done, and the count of their lines.

    Raises:
        OutputError: a journal cannot be read or written.
    """
    done, tally = DoneSources(np.empty(0, np.uint64)), Tally()
    own = [files.journal, files.run, *(files.folder / name for name in format_files(FORMATS))]
    discard_leftovers(own)
    with atomic_path(files.journal) as part, part.open("wb") as stream:
        for run in (files, *parts):
            path = run.last_journal()
            finished = DoneSources.named(_finished(path) if path else iter(()))
            _clear_unfinished(run, finished)
            for row in _kept(path, finished, before=done) if path else ():
                stream.write(encode(row))
                tally.add(row)
            done |= finished
    for run in parts:
        run.remove()
    tally.resumed = len(done)
    return done, tally


def _finished(path: Path) -> Iterator[str]:
    """The sources of a journal whose results are all there."""
    for row in read_rows(path):
        whole = row.get("complete") and "error" not in row
        recorded = row.get("live") and row["frames"]  # what was live cannot be had again
        ended = row.get("kind") == "image" or (row.get("kind") == "video" and (whole or recorded))
        if ended and all(map(os.path.exists, _files(row, path.parent))):
            yield row["source"]


def _kept(path: Path, finished: DoneSources, *, before: DoneSources) -> Iterator[Row]:
    """The lines of finished sources; files that other lines name are removed.

    Args:
        path: the journal.
        finished: sources whose lines are kept,
        before: unless another journal has them already: a kill can leave both.
    """
    for row in read_rows(path):
        if row["source"] in before:
            continue
        if row["source"] in finished:
            yield row
        else:
            for file in _files(row, path.parent):
                discard(file)


def _clear_unfinished(run: RunFiles, finished: DoneSources) -> None:
    """Remove what the source has that was being written when the run was killed."""
    try:
        note = json.loads(run.writing.read_bytes().partition(b"\n")[0])  # behind it, older ones
    except (OSError, ValueError):
        return
    files = _files(note, run.folder)
    discard_leftovers(files)
    if note["source"] not in finished:
        for file in files:
            discard(file)


def _files(row: Row, folder: Path) -> list[Path]:
    """The files that a line names; none outside the folder, whoever wrote the line."""
    names = [PurePosixPath(row[key]) for key in FILE_KEYS if key in row]
    return [folder / name for name in names if not name.is_absolute() and ".." not in name.parts]

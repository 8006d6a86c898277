"""Where the files that belong to a whole run lie, and which of its results are unfinished."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from atas_deploy.core.files import PART_SUFFIX, part_path
from atas_deploy.media.shards import Shard

MASKS_SUFFIX = ".masks"
FILE_KEYS = ("labels", "overlay", "npz", "masks")
"""Keys of a line of the journal that hold files, relative to its folder."""

_DIGITS = 8  # random ones in the names of `part_path`

_SHARD_FILE = re.compile(r"(?:results|run)\.(\d+-of-\d+)\.jsonl?(?:\.part)?")
_ITEM_FILE = re.compile(r"(?:results|\.atas-deploy)\.item-([0-9a-f]+-\d+)\.\w+(?:\.part)?")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where the files that belong to a whole run lie.

    Attributes:
        folder: of the results.
        shard: (i, n), one of n processes that share the folder; None = the only one.
        item: a few sources of a run that several workers share, as "3f9a-12"; None = all. Its
            worker keeps their lines until the run takes them over.
    """

    folder: Path
    shard: Shard | None = None
    item: str | None = None

    @property
    def _part(self) -> str:
        if self.item is not None:
            return f".item-{self.item}"
        return "" if self.shard is None else f".{self.shard[0]}-of-{self.shard[1]}"

    @property
    def results(self) -> Path:
        """The journal of a run that ended."""
        return self.folder / f"results{self._part}.jsonl"

    @property
    def journal(self) -> Path:
        """The journal of a run that goes on, or was killed."""
        return self.folder / f"results{self._part}.jsonl{PART_SUFFIX}"

    @property
    def run(self) -> Path:
        """Settings and counts."""
        return self.folder / f"run{self._part}.json"

    @property
    def lock(self) -> Path:
        """Held while the run goes on."""
        return self.folder / f".atas-deploy{self._part}.lock"

    @property
    def writing(self) -> Path:
        """Names the files that are being written; only a killed run leaves it."""
        return self.folder / f".atas-deploy{self._part}.writing"

    @property
    def tries(self) -> Path:
        """Grows by a byte with each worker that begins an item."""
        return self.folder / f".atas-deploy{self._part}.tries"

    def names(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Files as a line names them: relative to the folder."""
        return {key: path.relative_to(self.folder).as_posix() for key, path in files.items()}

    def exists(self) -> bool:
        """Tell whether a run left its record here."""
        return any(path.exists() for path in (self.journal, self.results, self.run))

    def last_journal(self) -> Path | None:
        """The newest journal there is: that of a killed run before that of one that ended."""
        return next((path for path in (self.journal, self.results) if path.exists()), None)

    def shards(self) -> list["RunFiles"]:
        """The files of each shard that wrote into the folder."""
        names = [path.name for path in self.folder.glob("*.*-of-*.json*")]
        found = {match[1] for match in map(_SHARD_FILE.fullmatch, names) if match}
        shards = sorted(tuple(map(int, numbers.split("-of-"))) for numbers in found)
        return [RunFiles(self.folder, (i, n)) for i, n in shards]

    def items(self) -> list["RunFiles"]:
        """The files of each item that workers have in the folder, in the order of the inputs."""
        names = [path.name for path in self.folder.glob("*.item-*")]
        found = {match[1] for match in map(_ITEM_FILE.fullmatch, names) if match}
        items = sorted(found, key=lambda item: int(item.rpartition("-")[2]))
        return [RunFiles(self.folder, item=item) for item in items]

    def remove(self) -> None:
        """Remove the record of the run; the pictures stay."""
        more = () if self.item is None else (self.tries, self.lock)  # no item comes twice
        for path in (self.results, self.journal, self.run, self.writing, *more):
            with suppress(OSError):
                path.unlink()


def discard(path: Path) -> None:
    """Remove a result that was not finished: a file, or a folder of label maps."""
    with suppress(OSError):
        if path.name.endswith(MASKS_SUFFIX) and path.is_dir() and not path.is_symlink():
            _remove_masks(path)
        else:
            path.unlink()


def discard_leftovers(paths: Iterable[Path]) -> None:
    """Remove what writers of files that were killed left beside them."""
    for folder, group in groupby(sorted(paths), key=lambda path: path.parent):
        stems = {part_path(path).name.removesuffix(PART_SUFFIX)[:-_DIGITS] for path in group}
        with suppress(OSError):
            for file in folder.iterdir():
                name = file.name.removesuffix(PART_SUFFIX)
                if file.suffix == PART_SUFFIX and name[:-_DIGITS] in stems:
                    _remove_masks(file) if file.is_dir() else file.unlink()


def _remove_masks(folder: Path) -> None:
    """Remove a folder of label maps; anything else in it keeps it."""
    for path in folder.iterdir():
        if path.suffix in (".png", PART_SUFFIX):
            path.unlink()
    folder.rmdir()

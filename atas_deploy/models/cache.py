"""The model cache: bundles that were exported because somebody named a model.

models/NAME-READOUT-HASH/     one bundle each; the hash is over weights, settings and version
models/.index/KEY.json        which bundle a source gave, and the files it was read from
models/.lock                  held while something is exported or deleted
models/*.part                 what a crash left; the next holder of the lock removes it
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from atas_deploy import __version__
from atas_deploy.core.bundle import EMBEDDED, REFERENCE, Bundle
from atas_deploy.core.cache import VARIABLE, cache_dir
from atas_deploy.core.errors import BundleError, ConfigError, OutputError
from atas_deploy.core.files import PART_SUFFIX, atomic_path, output_error, part_path
from atas_deploy.models.embedded import embedded_models
from atas_deploy.models.sources import absolute, stamp

_PATIENCE = 1.0  # seconds to wait for another process before saying so


class ModelCache:
    """The exported models of a user.

    Args:
        folder: of the bundles; None = `models` in `atas_deploy.core.cache.cache_dir()`.

    Raises:
        OutputError: there is no place for a cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            self.folder = folder or cache_dir() / "models"
        except OSError as exc:
            raise OutputError(f"Exported models have no place: {exc}.") from exc

    def names(self) -> list[str]:
        """Names of the bundles, whole or damaged."""
        try:
            found = [path.name for path in self.folder.iterdir() if path.is_dir()]
        except OSError:
            return []
        return sorted(n for n in found if n[0] != "." and not n.endswith(PART_SUFFIX))

    def named(self, name: str) -> Bundle | None:
        """The bundle of this name.

        Raises:
            BundleError: it is damaged.
        """
        return Bundle.open(self.folder / name) if name in self.names() else None

    def lookup(self, source: str, readout: str | None) -> Bundle | None:
        """The bundle that a source gave before, None if there is none or the source has changed.

        One without a reference is as good as none: an earlier release wrote it.

        Takes milliseconds: sizes and times of local files stand for their content; a model of the
        network is the one that was fetched.
        """
        try:
            record = json.loads(self._index(source, readout).read_bytes())
            bundle = self.named(record["bundle"])
            if bundle and REFERENCE in bundle.manifest.files and record["files"] == stamp(source):
                return bundle
        except (OSError, ValueError, KeyError, TypeError, BundleError):
            pass  # never exported, or damaged: exporting mends both
        return None

    def exported(self, source: str) -> list[str]:
        """Names of the bundles that a source gave, with any read-out."""
        source = absolute(source)
        found = {r["bundle"] for r in self._records().values() if r["source"] == source}
        return sorted(found.intersection(self.names()))

    def sources(self, name: str) -> list[str]:
        """What the bundle of this name was exported from; embedded models by their names."""
        found = {r["source"] for r in self._records().values() if r["bundle"] == name}
        own = {str(EMBEDDED.resolve() / model): model for model in embedded_models()}
        return sorted(own.get(source, source) for source in found)

    def size(self) -> int:
        """Bytes that the bundles take."""
        files = (file for name in self.names() for file in (self.folder / name).rglob("*"))
        return sum(file.stat().st_size for file in files if file.is_file())

    def remember(
        self, source: str, readout: str | None, bundle: str, files: list[list[Any]]
    ) -> None:
        """Record which bundle a source gave, and the stamp it had before the export."""
        path = self._index(source, readout)
        source = absolute(source)
        record = {"source": source, "readout": readout, "bundle": bundle, "files": files}
        with self._writing():
            path.parent.mkdir(exist_ok=True)
            with atomic_path(path) as part:
                part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def delete(self, name: str, *, tell: Callable[[str], None] | None = None) -> None:
        """Remove a bundle.

        Args:
            name: one of `names()`.
            tell: as for `locked`.

        Raises:
            ConfigError: there is none of this name.
            OutputError: it cannot be removed.
        """
        with self.locked(tell):
            if name not in self.names():
                raise ConfigError(
                    f'The cache {self.folder} holds no "{name}"; `atas-deploy models` lists what '
                    "it holds."
                )
            discard(self.folder / name)
            for path, record in self._records().items():
                if record["bundle"] == name:
                    path.unlink(missing_ok=True)

    @contextmanager
    def locked(self, tell: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the cache alone, and clear away what a crash left behind, before and after.

        Args:
            tell: called with one line if another process holds it.

        Raises:
            OutputError: the cache cannot be written.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            try:
                lock.acquire(timeout=_PATIENCE)
            except Timeout:
                if tell:
                    tell(f"Waiting for another export into {self.folder} to end.")
                lock.acquire()
        try:
            self._clear()
            yield
        finally:
            self._clear()
            lock.release()

    def _records(self) -> dict[Path, dict[str, Any]]:
        """The records of the index; damaged ones are left out."""
        found = {}
        for path in self.folder.glob(".index/*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                record = json.loads(path.read_bytes())
                if all(isinstance(record[key], str) for key in ("bundle", "source")):
                    found[path] = record
        return found

    def _clear(self) -> None:
        for leftover in self.folder.glob(f"*{PART_SUFFIX}"):
            shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say which folder cannot be written, and that it may be another one."""
        try:
            yield
        except (OSError, NotImplementedError) as exc:  # a file system without locks
            cause = exc.__cause__ if isinstance(exc, OutputError) else exc
            told = output_error(self.folder, cause if isinstance(cause, Exception) else exc)
            raise OutputError(f"{told}, by setting {VARIABLE}") from exc

    def _index(self, source: str, readout: str | None) -> Path:
        key = json.dumps([__version__, absolute(source), readout])
        name = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return self.folder / ".index" / f"{name}.json"


def discard(folder: Path) -> None:
    """Remove a bundle: gone at once for all who look, then from the disk.

    Raises:
        OutputError: it cannot be removed.
    """
    part = part_path(folder)
    try:
        folder.rename(part)
        shutil.rmtree(part)
    except OSError as exc:
        raise OutputError(
            f"Cannot remove {folder} ({exc.strerror}); check the permissions of its folder."
        ) from exc

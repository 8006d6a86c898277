"""A cache of query features on disk, shared by all runs of a user.

One SQLite file; a key is a hash of model, templates and query, a value D float32 numbers. The cache
only saves time: whatever is wrong with it, a run goes on without it and `problem` says why.

Q queries, D embedding width
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.core.bundle import Bundle
from atas_deploy.core.cache import cache_dir

Features = npt.NDArray[np.float32]

_APPLICATION = 0x61746173  # "atas", in the file's header
_FORMAT = 1  # raise it when the tokenizer or the averaging changes: old entries are not found then
_SCHEMA = "CREATE TABLE features (id INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB NOT NULL)"
_MAX_BYTES = 256 * 2**20
_KEYS_A_QUERY = 500  # SQLite allows 999 and more
_ROWS_A_WRITE = 4_096
_TIMEOUT = 5.0  # seconds to wait for another process that writes


class TextStore:
    """Query features of one model on disk; safe for several threads and processes.

    Args:
        bundle: the model.
        folder: of the file; None = `atas_deploy.core.cache.cache_dir()`.
        max_bytes: the oldest entries are dropped beyond this size.

    Attributes:
        problem: one sentence on why the cache is not used, None while all is well.
    """

    def __init__(
        self, bundle: Bundle, *, folder: Path | None = None, max_bytes: int = _MAX_BYTES
    ) -> None:
        self.problem: str | None = None
        self._model, self._width = bundle.text_fingerprint, bundle.manifest.embed_dim
        self._folder, self._max_bytes = folder, max_bytes
        self._readable = True

    def read(self, templates: Sequence[str], queries: Sequence[str]) -> dict[str, Features]:
        """Known features among those of some queries, each (D,) float32 of length 1."""
        found: dict[str, Features] = {}
        if not self._readable:
            return found
        query_of = {key: query for query, key in self._keys(templates, queries).items()}
        keys = list(query_of)
        try:
            with self._open() as connection:
                for start in range(0, len(keys), _KEYS_A_QUERY):
                    rows = _select(connection, keys[start : start + _KEYS_A_QUERY])
                    found |= {query_of[key]: value for key, value in self._valid(rows)}
        except (sqlite3.Error, OSError) as exc:
            self._readable = False
            self._give_up("read", exc)
        return found

    def write(self, templates: Sequence[str], features: Mapping[str, Features]) -> None:
        """Keep the features of some queries, each (D,) float32."""
        if self.problem:
            return
        keys = self._keys(templates, list(features))
        rows = [(keys[query], value.astype("<f4").tobytes()) for query, value in features.items()]
        try:
            with self._open() as connection:
                for start in range(0, len(rows), _ROWS_A_WRITE):
                    with connection:
                        connection.execute("BEGIN IMMEDIATE")
                        connection.executemany(
                            "INSERT OR REPLACE INTO features (key, value) VALUES (?, ?)",
                            rows[start : start + _ROWS_A_WRITE],
                        )
                        _drop_oldest(connection, self._max_bytes)
        except (sqlite3.Error, OSError) as exc:
            self._give_up("written", exc)

    def _keys(self, templates: Sequence[str], queries: Sequence[str]) -> dict[str, bytes]:
        scope = hashlib.blake2b(digest_size=16)
        for part in (str(_FORMAT), self._model, *templates):
            data = part.encode("utf-8", "surrogatepass")
            scope.update(len(data).to_bytes(8, "little") + data)
        keys = {}
        for query in queries:
            one = scope.copy()
            one.update(query.encode("utf-8", "surrogatepass"))
            keys[query] = one.digest()
        return keys

    def _valid(self, rows: Sequence[tuple[bytes, object]]) -> list[tuple[bytes, Features]]:
        """Rows whose value is D numbers of length 1."""
        size = 4 * self._width
        rows = [row for row in rows if isinstance(row[1], bytes) and len(row[1]) == size]
        data = b"".join(value for _, value in rows if isinstance(value, bytes))
        features = np.frombuffer(data, "<f4").reshape(-1, self._width).astype(np.float32)
        with np.errstate(all="ignore"):
            good = np.abs(np.linalg.norm(features, axis=1) - 1) < 1e-3
        return [(rows[i][0], features[i]) for i in np.flatnonzero(good)]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of this call alone: threads and forked processes share none."""
        self._folder = self._folder or cache_dir()
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "text-features.sqlite3"
        with closing(sqlite3.connect(file, timeout=_TIMEOUT, isolation_level=None)) as connection:
            _prepare(connection)
            yield connection

    def _give_up(self, action: str, exc: Exception) -> None:
        if self.problem is None:
            reason = str(getattr(exc, "strerror", None) or exc)
            where = f" in {self._folder}" if self._folder else ""
            self.problem = (
                f"The cache of text features{where} cannot be {action} ({reason}), so words are "
                "encoded anew; remove or repair it, or set ATAS_DEPLOY_CACHE to a folder you may "
                "write to."
            )


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the table in a new file; refuse a file that is not ours."""
    if _application(connection) == _APPLICATION:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if _application(connection) == _APPLICATION:  # another process was faster
            return
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise sqlite3.DatabaseError("the file belongs to another program")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(_SCHEMA)


def _application(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("PRAGMA application_id").fetchone()[0]
    return number


def _select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> list[tuple[bytes, object]]:
    marks = ",".join("?" * len(keys))
    query = f"SELECT key, value FROM features WHERE key IN ({marks})"
    return connection.execute(query, keys).fetchall()


def _drop_oldest(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Delete the oldest quarter of the rows while more than `max_bytes` are in use."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    if (pages - free) * size > max_bytes:
        connection.execute(
            "DELETE FROM features WHERE id <= (SELECT id FROM features ORDER BY id LIMIT 1 "
            "OFFSET (SELECT count(*) / 4 FROM features))"
        )

"""The engines of a bundle, each with a record beside it.

engines/NAME.plan       what TensorRT wrote; machine code, so it is read only by its hash
engines/NAME.json       the key it was built for, its SHA-256 and size, whether it was proved
engines/.build.lock     held while one is built: a second builder waits
engines/.lock           held for the moment in which a record changes
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from atas_deploy.backends.trt.key import EngineKey
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import BackendUnavailableError, BundleError, OutputError
from atas_deploy.core.files import atomic_path, output_error

ENGINES = "engines"
_PATIENCE = 1.0  # seconds to wait for another builder before saying so


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRecord:
    """What is known of an engine.

    Attributes:
        name: of its files, without suffix.
        key: what it was built from and for.
        sha256: of the plan.
        size: of the plan in bytes.
        built: when, in UTC, ISO 8601.
        proven: whether it gave the PyTorch model's features on a card.
        proof: what was compared, JSON-ready; None = nothing yet.
        quarantined: why it must not be used; None = it may be.
    """

    name: str
    key: EngineKey
    sha256: str
    size: int
    built: str
    proven: bool = False
    proof: Mapping[str, Any] | None = None
    quarantined: str | None = None

    def to_json(self) -> str:
        """The text of the file beside the plan."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        return json.dumps(content | {"key": self.key.to_json()}, indent=2) + "\n"


def plan_path(bundle: Bundle, record: EngineRecord) -> Path:
    """Where the plan of a record lies."""
    return bundle.path / ENGINES / f"{record.name}.plan"


def list_engines(bundle: Bundle) -> list[EngineRecord]:
    """The records of all engines, the oldest first.

    Raises:
        BundleError: one is damaged.
    """
    found = [_read_record(path) for path in (bundle.path / ENGINES).glob("*.json")]
    return sorted(found, key=lambda record: record.built)


def load_engine(bundle: Bundle, wanted: EngineKey) -> tuple[bytes, EngineRecord]:
    """Read the engine that fits: a proven one before others, then the newest.

    Args:
        bundle: the model.
        wanted: as `key.key_here` gives it.

    Returns:
        The plan, of which the hash was checked in this very buffer, and its record.

    Raises:
        BackendUnavailableError: none fits; says what differs and how to build one.
        BundleError: its files are damaged.
    """
    found = list_engines(bundle)
    fitting = [record for record in found if not record.key.differences(wanted)]
    usable = [record for record in fitting if record.quarantined is None]
    if not usable:
        raise BackendUnavailableError(_why_none(bundle, found, fitting, wanted))
    record = max(usable, key=lambda record: (record.proven, record.built))
    return read_plan(bundle, record), record


def save_engine(bundle: Bundle, key: EngineKey, plan: bytes) -> EngineRecord:
    """Write an engine and its record; each appears whole or not at all.

    Raises:
        OutputError: they cannot be written.
    """
    record = EngineRecord(
        name=engine_name(key),
        key=key,
        sha256=hashlib.sha256(plan).hexdigest(),
        size=len(plan),
        built=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    with _locked(bundle):
        with atomic_path(plan_path(bundle, record)) as part:
            part.write_bytes(plan)
        _write_record(bundle, record)
    return record


def find_engine(bundle: Bundle, key: EngineKey) -> EngineRecord | None:
    """The engine that was built for exactly this key, if its files are whole and it may be used."""
    try:
        record = _read_record(bundle.path / ENGINES / f"{engine_name(key)}.json")
        read_plan(bundle, record)
    except BundleError:
        return None
    return record if record.key == key and record.quarantined is None else None


def set_proven(bundle: Bundle, record: EngineRecord, proof: Mapping[str, Any]) -> EngineRecord:
    """Record that an engine gave the right features.

    Args:
        bundle: whose engine it is.
        record: of the engine that was run; one that was built anew meanwhile is left alone.
        proof: what was compared, JSON-ready.

    Raises:
        OutputError: the record cannot be written.
        BundleError: the record is damaged.
    """
    return _change(bundle, record, proven=True, proof=dict(proof))


def quarantine(bundle: Bundle, record: EngineRecord, reason: str) -> EngineRecord:
    """Keep an engine from being used until it is built again.

    Args:
        bundle: whose engine it is.
        record: of the engine that failed.
        reason: why, one sentence without its stop.

    Raises:
        OutputError: the record cannot be written.
        BundleError: the record is damaged.
    """
    return _change(bundle, record, proven=False, quarantined=reason)


@contextmanager
def building(bundle: Bundle, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Build alone: a second builder of the same bundle waits for the first.

    Args:
        bundle: the model.
        tell: called with one line if another process builds.

    Raises:
        OutputError: the folder of the engines cannot be written.
    """
    folder = bundle.path / ENGINES
    lock = FileLock(folder / ".build.lock")
    try:
        folder.mkdir(exist_ok=True)
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            if tell:
                tell(f"Waiting for another build of engines in {folder} to end.")
            lock.acquire()
    except (OSError, NotImplementedError) as exc:  # a file system without locks
        raise output_error(folder, exc) from exc
    try:
        yield
    finally:
        lock.release()


def engine_name(key: EngineKey) -> str:
    """The name of the files of an engine."""
    return f"{key.flavour}-{key.precision}-{key.digest}"


def _change(bundle: Bundle, record: EngineRecord, **changes: Any) -> EngineRecord:
    """Change a record, unless the engine has been replaced since it was read."""
    with _locked(bundle):
        current = _read_record(bundle.path / ENGINES / f"{record.name}.json")
        if current.sha256 != record.sha256:
            return current
        changed = replace(current, **changes)
        _write_record(bundle, changed)
    return changed


def _write_record(bundle: Bundle, record: EngineRecord) -> None:
    with atomic_path(bundle.path / ENGINES / f"{record.name}.json") as part:
        part.write_text(record.to_json(), encoding="utf-8")


@contextmanager
def _locked(bundle: Bundle) -> Iterator[None]:
    folder = bundle.path / ENGINES
    try:
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock"):
            yield
    except OutputError:
        raise
    except (OSError, NotImplementedError) as exc:  # a file system without locks
        raise output_error(folder, exc) from exc


def _read_record(path: Path) -> EngineRecord:
    names = {item.name for item in fields(EngineRecord)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = {name: value for name, value in content.items() if name in names}
        record = EngineRecord(**known | {"key": EngineKey.from_json(content["key"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BundleError(
            f"The record {path} of an engine cannot be read ({type(exc).__name__}); delete it and "
            f"build the engine again with {_command(path.parents[1], again=False)}."
        ) from exc
    return replace(record, name=path.stem)


def read_plan(bundle: Bundle, record: EngineRecord) -> bytes:
    """The plan of a record, of which the hash was checked in this very buffer.

    Raises:
        BundleError: it cannot be read, or is damaged.
    """
    path = plan_path(bundle, record)
    try:
        plan = path.read_bytes()
    except OSError as exc:
        raise BundleError(
            f"Cannot read the engine {path} ({exc.strerror}); check its permissions, build it "
            f"again with {_command(bundle.path)} and its options, or delete its record."
        ) from exc
    if len(plan) != record.size or hashlib.sha256(plan).hexdigest() != record.sha256:
        content = f"{len(plan)} of {record.size} bytes"
        if len(plan) == record.size:
            content = "another content than its record"
        raise BundleError(
            f"The engine {path} is damaged (it has {content}) and was not loaded; build it again "
            f"with {_command(bundle.path)} and its options, or delete it and its record."
        )
    return plan


def _why_none(
    bundle: Bundle, found: list[EngineRecord], fitting: list[EngineRecord], wanted: EngineKey
) -> str:
    if bundle.is_embedded:
        model = bundle.path.resolve().name
        return (
            f"{bundle.path} is part of the package and has no engine that fits; export a bundle "
            f"with one, `atas-deploy export --model {model} --trt`, and name its folder."
        )
    if fitting:
        last = fitting[-1]
        return (
            f"The engine {last.name} of {bundle.path} is in quarantine ({last.quarantined}); build "
            f"it again with {_command(bundle.path)}."
        )
    command = _command(bundle.path, again=False)
    if not found:
        return f"{bundle.path} has no engine; build one with {command}."
    nearest = min(found, key=lambda record: len(record.key.differences(wanted)))
    differences = "; ".join(nearest.key.differences(wanted))
    return (
        f"No engine of {bundle.path} can be used here ({nearest.name}: {differences}); build one "
        f"with {command}."
    )


def _command(folder: Path, *, again: bool = True) -> str:
    return f"`atas-deploy engine {folder}{' --force' if again else ''}`"

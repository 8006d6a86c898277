"""One run at a time in a folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.files import output_error
from atas_deploy.runtime.run_files import RunFiles


@contextmanager
def locked(files: RunFiles, *, patience: float = 0) -> Iterator[None]:
    """Hold the lock of a run; the system lets go of it when the process ends, killed or not.

    Args:
        files: of the run.
        patience: seconds to wait for another process that holds it.

    Raises:
        ConfigError: another process holds it.
        OutputError: the folder or the lock cannot be made.
    """
    lock = FileLock(files.lock, timeout=patience)
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(files.folder, exc) from exc
    try:
        lock.acquire()
    except Timeout as exc:
        raise ConfigError(
            f"Another run{_holder(files)} is writing to {files.folder}; wait for its end or choose "
            "another folder with --out."
        ) from exc
    except (OSError, NotImplementedError) as exc:  # a file system without locks
        raise output_error(files.lock, exc) from exc
    try:
        yield
    finally:
        lock.release()


def _holder(files: RunFiles) -> str:
    try:
        process = json.loads(files.run.read_bytes())["process"]
        return f" (process {process['pid']} on {process['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""

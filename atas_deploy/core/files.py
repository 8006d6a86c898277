"""Files that appear whole or not at all, and one sentence for each way of failing to write."""

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atas_deploy.core.errors import OutputError

PART_SUFFIX = ".part"

_CAUSES = {
    errno.ENOENT: "its folder does not exist: create it first or choose another one",
    errno.ENOTDIR: "part of its folder path is a file: choose another folder",
    errno.EEXIST: "a file of this name is in the way: choose another name",
    errno.EISDIR: "a folder has this name: choose another name or remove the folder",
    errno.EACCES: "permission was denied: choose a folder you may write to or change its mode",
    errno.EPERM: "permission was denied: choose a folder you may write to or change its mode",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOSPC: "the disk is full: free some space or choose another disk",
    errno.EDQUOT: "your disk quota is used up: free some space or choose another disk",
    errno.EFBIG: "a file may not be as large here: raise `ulimit -f` or choose another disk",
    errno.ENAMETOOLONG: "the name is too long for the file system: shorten it",
}


def output_error(target: Path, cause: Exception) -> OutputError:
    """Describe why a file could not be written, and the cure, in one sentence.

    Args:
        target: The file that was to be written.
        cause: What the system or an encoder raised.

    Returns:
        The error to raise ``from cause``.
    """
    code = getattr(cause, "errno", None)
    reason = _CAUSES.get(code or 0) or getattr(cause, "strerror", None) or str(cause)
    return OutputError(f"Cannot write {target}: {reason}")


def check_writable(folder: Path) -> None:
    """Find out whether a folder can be made and written, and leave nothing behind.

    Raises:
        OutputError: it cannot.
    """
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryDirectory(dir=place, prefix=".atas-deploy-"):
            pass
    except OSError as error:
        raise output_error(folder, error) from error


def part_path(target: Path) -> Path:
    """Name a temporary file beside a target, unlike that of any other writer.

    It lies in the same folder because a rename is atomic only within one file system.
    """
    room = os.fsencode(target.name)[:200]  # most systems allow 255 bytes
    name = room.decode(errors="ignore")  # and some take UTF-8 only
    return target.with_name(f"{name}.{secrets.token_hex(4)}{PART_SUFFIX}")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path that takes the target's name if the block succeeds.

    Readers see the old file or the whole new one, never half of it; after a failure nothing is
    left behind. The temporary name ends in ``.part``, so encoders must be told their format.

    Args:
        target: The file to create or replace; its folder must exist.

    Yields:
        The path to write to.

    Raises:
        OutputError: If writing or renaming fails for a reason of the system.
    """
    part = part_path(target)
    try:
        yield part
        part.replace(target)
    except OutputError:
        raise
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        with suppress(OSError):
            part.unlink()

"""A folder that appears whole or not at all, and takes the place of nothing but a bundle."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from atas_deploy.core.bundle import FORMAT, MANIFEST
from atas_deploy.core.errors import OutputError
from atas_deploy.core.files import output_error, part_path


@contextmanager
def new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `out` if the block succeeds.

    Args:
        out: the folder to make; a bundle there stays valid until then.
        force: whether to replace a bundle.

    Raises:
        OutputError: the folder is in use, or cannot be written.
    """
    try:
        _check_target(out, force=force)
        out.parent.mkdir(parents=True, exist_ok=True)
        with _swapped_in(Path(os.path.realpath(out))) as part:
            yield part
    except OutputError:
        raise
    except (OSError, SafetensorError) as exc:
        raise output_error(out, exc) from exc


@contextmanager
def _swapped_in(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out`, a real path, that takes its place if the block succeeds."""
    part, old = part_path(out), part_path(out)
    try:
        part.mkdir()
        yield part
        if out.exists():
            out.rename(old)
        part.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for leftover in (part, old):
            with suppress(OSError):
                shutil.rmtree(leftover)


def _check_target(out: Path, *, force: bool) -> None:
    """Refuse to overwrite anything but a bundle, and a bundle only by force."""
    if Path.cwd().is_relative_to(os.path.realpath(out)):  # replaced, it would vanish under the user
        raise OutputError(f"{out} holds the folder you are in; choose another --out.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_bundle(out):
        raise OutputError(f"{out} exists and is not a bundle; choose another --out.")
    if not force:
        raise OutputError(f"{out} exists; add --force to replace it, or choose another --out.")


def _is_bundle(folder: Path) -> bool:
    """Tell by its manifest whether a folder is a bundle, of any version and even if damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT

"""A folder that appears whole or not at all, and takes the place of nothing but its own kind."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from atas_deploy.core.bundle import FORMAT, MANIFEST
from atas_deploy.core.errors import OutputError
from atas_deploy.core.files import output_error, part_path


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderKind:
    """What a folder may replace.

    Attributes:
        noun: what it is called in messages.
        option: that names the folder.
        is_one: tells a folder of the kind.
    """

    noun: str
    option: str
    is_one: Callable[[Path], bool]


def is_bundle(folder: Path) -> bool:
    """Tell by its manifest whether a folder is a bundle, of any version and even if damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


BUNDLE = FolderKind(noun="bundle", option="--out", is_one=is_bundle)


@contextmanager
def new_folder(out: Path, *, force: bool, kind: FolderKind = BUNDLE) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `out` if the block succeeds.

    Args:
        out: the folder to make; one of its kind there stays valid until then.
        force: whether to replace a folder of its kind.
        kind: what is made.

    Raises:
        OutputError: the folder is in use, or cannot be written.
    """
    try:
        check_target(out, force=force, kind=kind)
        out.parent.mkdir(parents=True, exist_ok=True)
        with _swapped_in(Path(os.path.realpath(out))) as part:
            yield part
            check_target(out, force=force, kind=kind)  # another export may have ended meanwhile
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
    except OutputError as exc:  # of a file inside: the user knows the folder by its own name
        raise OutputError(str(exc).replace(str(part), str(out))) from exc
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for leftover in (part, old):
            with suppress(OSError):
                shutil.rmtree(leftover)


def check_target(out: Path, *, force: bool, kind: FolderKind = BUNDLE) -> None:
    """Refuse to overwrite anything but a folder of the kind, and that only by force.

    Raises:
        OutputError: naming the cure.
    """
    if Path.cwd().is_relative_to(os.path.realpath(out)):  # replaced, it would vanish under the user
        raise OutputError(f"{out} holds the folder you are in; choose another {kind.option}.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not kind.is_one(out):
        raise OutputError(f"{out} exists and is not a {kind.noun}; choose another {kind.option}.")
    if not force:
        raise OutputError(
            f"{out} exists; add --force to replace it, or choose another {kind.option}."
        )

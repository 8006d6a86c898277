"""Which images are held out."""

import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path

from atas_deploy.core.files import atomic_path

HELD_OUT_FILE = Path(__file__).resolve().parents[1] / "data" / "flickr8k_heldout.txt"
HELD_OUT = 1000


def held_out_names(names: Sequence[str], *, count: int = HELD_OUT) -> list[str]:
    """The `count` names with the smallest SHA-256, sorted: a split that no order of files moves."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return sorted(ranked[:count])


def names_hash(names: Sequence[str]) -> str:
    """SHA-256 of a list of names, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def write_training_images(archive: Path, out: Path) -> Path:
    """Copy the images of a tar file that are not held out into another, unless it is there.

    Args:
        archive: Flickr8k's images.
        out: the tar file to write.
    """
    if out.exists():
        return out
    held_out = set(HELD_OUT_FILE.read_text(encoding="utf-8").split())
    with tarfile.open(archive) as source, atomic_path(out) as part, tarfile.open(part, "w") as kept:
        for member in source:
            if member.isfile() and Path(member.name).name not in held_out:
                kept.addfile(member, source.extractfile(member))
    return out

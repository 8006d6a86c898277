"""Which images are held out."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

HELD_OUT_FILE = Path(__file__).resolve().parents[1] / "data" / "flickr8k_heldout.txt"
HELD_OUT = 1000


def held_out_names(names: Sequence[str], *, count: int = HELD_OUT) -> list[str]:
    """The `count` names with the smallest SHA-256, sorted: a split that no order of files moves."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return sorted(ranked[:count])


def names_hash(names: Sequence[str]) -> str:
    """SHA-256 of a list of names, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()

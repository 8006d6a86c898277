"""Writing JSON of any length without holding it."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO


def open_text(path: Path) -> TextIO:
    r"""Create a text file. Bytes of a file name that are no UTF-8 become \udcXX, valid in JSON."""
    return path.open("w", encoding="utf-8", errors="backslashreplace")


def open_aside(path: Path) -> TextIO:
    """Open a nameless text file beside another, for what must be written after the rest."""
    return tempfile.TemporaryFile(
        "w+", encoding="utf-8", errors="backslashreplace", dir=path.parent
    )


def to_json(row: Any) -> str:
    """Write a value as one compact line of JSON."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def write_list(out: TextIO, rows: Iterable[Any]) -> None:
    """Write a JSON list, one row a line."""
    separator = "[\n"
    for row in rows:
        out.write(separator + to_json(row))
        separator = ",\n"
    out.write("[]" if separator == "[\n" else "\n]")

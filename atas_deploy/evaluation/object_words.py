"""Words of the objects of a video data set, from JSON or CSV.

    {"bmx-trees": {"1": "person", "2": "bicycle|bike"}, "bear": "bear"}

A word alone is that of object 1; null or "" leaves an object out: its pixels do not count. A CSV
has the columns sequence, object and words.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atas_deploy.core.class_spec import shorten
from atas_deploy.core.errors import AnnotationError, InputError


def read_words(path: Path) -> dict[str, dict[int, str | None]]:
    """Words by sequence and object; None leaves an object out.

    Raises:
        InputError: the file cannot be read.
        AnnotationError: an entry is not as it should be, or a sequence has no word.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read ({exc}); give JSON or CSV in UTF-8.") from exc
    words: dict[str, dict[int, str | None]] = {}
    for where, sequence, number, word in (_csv if path.suffix == ".csv" else _json)(path, text):
        objects = words.setdefault(sequence, {})
        key = _object(path, where, number)
        if key in objects:
            raise AnnotationError(f"{path}: {where} names object {key} twice; keep one.")
        if word is not None and not isinstance(word, str):
            raise AnnotationError(f"{path}: {where} has {_show(word)}, expected a word or null.")
        objects[key] = " ".join((word or "").split()) or None
    for sequence, objects in words.items():
        if not any(objects.values()):
            raise AnnotationError(f'{path}: "{shorten(sequence)}" has no word; remove or add one.')
    if not words:
        raise AnnotationError(f"{path} names no sequence; expected words by sequence and object.")
    return words


def _json(path: Path, text: str) -> Iterator[tuple[str, str, Any, Any]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise AnnotationError(f"{path} is damaged or no JSON ({exc}); correct it.") from exc
    if not isinstance(data, dict):
        raise AnnotationError(f"{path} holds {_show(data)}, expected a table of sequences.")
    for sequence, objects in data.items():
        where = f'sequence "{shorten(sequence)}"'
        for number, word in (objects if isinstance(objects, dict) else {"1": objects}).items():
            yield where, sequence, number, word


def _csv(path: Path, text: str) -> Iterator[tuple[str, str, Any, Any]]:
    rows = csv.DictReader(text.splitlines())
    missing = {"sequence", "object", "words"} - set(rows.fieldnames or ())
    if missing:
        raise AnnotationError(
            f"{path} has no column {', '.join(sorted(missing))}; expected sequence, object, words."
        )
    for row in rows:
        yield f"line {rows.line_num}", row["sequence"] or "", row["object"], row["words"]


def _object(path: Path, where: str, number: Any) -> int:
    text = str(number).strip()
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 65_535:
        raise AnnotationError(
            f"{path}: {where} has the object {_show(number)}, expected a number from 1 to 65535."
        )
    return int(text)


def _show(value: Any) -> str:
    return shorten(json.dumps(value, ensure_ascii=False, default=str))

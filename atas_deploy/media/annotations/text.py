"""Text and JSON files, whole or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atas_deploy.core.errors import AnnotationError, first_sentence
from atas_deploy.media.images import check_readable


def read_text(path: Path, *, kind: str) -> str:
    """Text of a UTF-8 file, which may have a byte order mark and may be empty.

    Args:
        path: the file.
        kind: what is expected, with its article.

    Raises:
        InputError: it is missing or cannot be read.
        AnnotationError: it is no text.
    """
    if not (path.is_file() and path.stat().st_size == 0):
        check_readable(path, kind=kind)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise AnnotationError(
            f"{path} is not UTF-8 text (byte {exc.start}), expected {kind}: save it as UTF-8 or "
            "name another file"
        ) from exc
    if "\0" in text:
        raise AnnotationError(f"{path} is a binary file, expected {kind}: name another file")
    return text


def read_json(path: Path, pack: Callable[[dict[str, Any]], Any]) -> Any:
    """Data of a JSON file.

    Args:
        path: the file.
        pack: what becomes of each table, the inner ones first.

    Raises:
        InputError: it is missing, empty or cannot be read.
        AnnotationError: it is no JSON, or cut off.
    """
    kind = "a JSON file of annotations"
    check_readable(path, kind=kind)
    text = read_text(path, kind=kind)
    try:
        return json.loads(text, object_hook=pack)
    except json.JSONDecodeError as exc:
        body = text.strip()
        if not body.startswith(("[", "{")):
            what, cure = "is no JSON", "name a JSON file"
        elif not body.endswith(("]", "}")) or not text[exc.pos :].strip():
            what, cure = f"is cut off in line {exc.lineno}", "copy or make it again"
        else:
            place = f"line {exc.lineno}, column {exc.colno}"
            what, cure = f"is not valid JSON ({first_sentence(exc)})", f"correct {place}"
        raise AnnotationError(f"{path} {what}, expected {kind}: {cure}") from exc
    except (RecursionError, ValueError) as exc:  # ValueError: a number of thousands of digits
        raise AnnotationError(f"{path} is no JSON of annotations: name another file") from exc

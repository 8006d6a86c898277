"""Text and JSON files, whole or refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np

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


def read_json(path: Path) -> Any:
    """Data of a JSON file; long lists of numbers become arrays, which need a quarter of the room.

    Raises:
        InputError: it is missing, empty or cannot be read.
        AnnotationError: it is no JSON, or cut off.
    """
    kind = "a JSON file of annotations"
    check_readable(path, kind=kind)
    text = read_text(path, kind=kind)
    try:
        return json.loads(text, object_hook=_pack)
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


def _pack(table: dict[str, Any]) -> dict[str, Any]:
    """Polygons and run lengths as arrays, if they are lists of numbers; else they stay, refused."""
    polygons = table.get("segmentation")
    if isinstance(polygons, list):
        table["segmentation"] = [_pack_list(polygon, np.float64) for polygon in polygons]
    if isinstance(table.get("counts"), list):
        table["counts"] = _pack_list(table["counts"], np.int64)
    return table


def _pack_list(values: Any, dtype: type[np.generic]) -> Any:
    allowed = {int} if dtype is np.int64 else {int, float}
    if isinstance(values, list) and set(map(type, values)) <= allowed:
        try:
            return np.array(values, dtype)
        except OverflowError:
            pass
    return values

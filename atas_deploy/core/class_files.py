"""Class lists in files: text with one class a line, JSON, TOML."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atas_deploy.core.class_spec import (
    ClassList,
    ClassSpec,
    Color,
    check_background,
    check_specs,
    make_spec,
    shorten,
)
from atas_deploy.core.errors import ConfigError

_MAX_BYTES = 64 * 2**20
_ENTRY_KEYS = ("name", "synonyms", "color")
_LIST_KEYS = ("classes", "background")
_HEX = re.compile("#[0-9a-fA-F]{6}")


def read_class_file(path: Path) -> ClassList:
    """Read a class list.

    Args:
        path: `.json` or `.toml` (see docs/words.md), else text with one class a line.

    Raises:
        ConfigError: the file cannot be read or is no class list; names the entry.
    """
    kind = path.suffix.casefold()
    if kind not in (".json", ".toml"):
        lines = read_lines(path, what="class")
        specs = tuple(make_spec(line, f"Class {i}") for i, line in enumerate(lines, 1))
        return ClassList(check_specs(specs), name=path.name)
    try:
        text = _read_text(path, what="class")
        data = json.loads(text) if kind == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        if isinstance(exc, ConfigError):
            raise
        what, reason = kind[1:].upper(), shorten(str(exc), limit=120)
        raise ConfigError(f"{path} is not valid {what} ({reason}); correct it.") from exc
    return _from_data(data, path)


def read_lines(path: Path, *, what: str) -> list[str]:
    """Lines of a text file, white space collapsed, without blank lines and `#` comments.

    Raises:
        ConfigError: the file cannot be read.
    """
    lines = (" ".join(line.split()) for line in _read_text(path, what=what).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def parse_color(value: Any, where: str) -> Color:
    """A colour from "#rrggbb" or [r, g, b].

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(value, str) and _HEX.fullmatch(value):
        red, green, blue = bytes.fromhex(value[1:])
        return red, green, blue
    if isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value)):
        return value[0], value[1], value[2]
    raise ConfigError(
        f'{where} has the colour {shorten(repr(value))}; write it as "#rrggbb" or as three whole '
        "numbers from 0 to 255."
    )


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255  # True is no number here


def _read_text(path: Path, *, what: str) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(
                f"{path} is larger than {_MAX_BYTES // 2**20} MiB and cannot be a {what} list."
            )
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
    except ValueError as exc:
        if isinstance(exc, ConfigError):
            raise
        reason = "impossible path"
    raise ConfigError(
        f"Cannot read the {what} list {shorten(str(path), limit=200)} ({reason}); "
        f"give an existing text file with one {what} a line."
    )


def _from_data(data: Any, path: Path) -> ClassList:
    table = data if isinstance(data, dict) else {"classes": data}
    _check_keys(table, _LIST_KEYS, str(path))
    entries = table.get("classes", [])
    if not isinstance(entries, list):
        raise ConfigError(
            f'The "classes" of {path} are of type {type(entries).__name__}; expected a list.'
        )
    specs = tuple(_entry(entry, f"Class {i} of {path}") for i, entry in enumerate(entries, 1))
    check_specs(specs)
    words = _words(table.get("background", []), f"The background of {path}")
    return ClassList(specs, check_background(words, specs), path.name)


def _entry(entry: Any, where: str) -> ClassSpec:
    if isinstance(entry, str):
        return make_spec(entry, where)
    if not isinstance(entry, dict):
        raise ConfigError(
            f'{where} is of type {type(entry).__name__}; expected "name|synonym" or a table with '
            f"{', '.join(_ENTRY_KEYS)}."
        )
    _check_keys(entry, _ENTRY_KEYS, where)
    if not isinstance(entry.get("name"), str):
        raise ConfigError(f'{where} has no "name"; give it one, as text.')
    color = parse_color(entry["color"], where) if entry.get("color") is not None else None
    words = [entry["name"], *_words(entry.get("synonyms", []), where)]
    return make_spec("|".join(dict.fromkeys(words)), where, color=color)


def _words(value: Any, where: str) -> list[str]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or any(not isinstance(word, str) for word in words):
        raise ConfigError(f"{where} has words that are not text; expected a list of strings.")
    words = [" ".join(word.split()) for word in words]
    if "" in words:
        raise ConfigError(f"{where} has an empty word; remove it.")
    return words


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := [key for key in table if key not in known]:
        raise ConfigError(
            f'{where} has the unknown key "{shorten(unknown[0])}"; known are {", ".join(known)}.'
        )

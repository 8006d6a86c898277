"""Run files: the options of a run as TOML, one key an option, named as its flag.

method = "atas"
images = ["photos"]
lr = 1e-05
grids = [2, 4, 6]
"""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from atas_deploy.core.errors import ConfigError

RUN_FILE = "run.toml"

_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}


def read_run_file(path: Path) -> dict[str, Any]:
    """Read the options in a TOML file.

    Raises:
        ConfigError: it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise ConfigError(
            f"Cannot read the run file {path} ({reason}); give a TOML file with an option a line."
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigError(
            f"The run file {path} is no TOML ({exc}); write options as in lr = 1e-5, texts in "
            "quotes."
        ) from exc


def to_toml(options: Mapping[str, Any]) -> str:
    """Options as TOML; those that are None, which TOML cannot say, become comments.

    Args:
        options: texts, paths, numbers, booleans and sequences of them.
    """
    rows = (
        f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"
        for key, value in options.items()
    )
    return "".join(f"{row}\n" for row in rows)


def plain(value: Any) -> Any:
    """A value of an option as TOML and JSON have it: paths are texts, sequences are lists."""
    if isinstance(value, Path):
        return str(value)
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def kinds_of(settings: type) -> dict[str, Any]:
    """Type of each field of a dataclass, by name."""
    hints = get_type_hints(settings)
    return {field.name: hints[field.name] for field in fields(settings)}


def as_kind(value: Any, kind: Any, *, called: str) -> Any:
    """Bring a value to the type of its field.

    Whole numbers are numbers too, lists become tuples, one value stands for a list of one, and
    texts name paths.

    Args:
        value: as TOML or the command line gives it.
        kind: type of the field: a plain one, a Literal, a tuple of any length, or one or None.
        called: what to call the option in a message.

    Raises:
        ConfigError: it is of another type.
    """
    if get_origin(kind) in (UnionType, Union):
        if value is None:
            return None
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is Literal:
        return _as_choice(value, get_args(kind), called)
    if get_origin(kind) in (tuple, Sequence):
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(as_kind(one, get_args(kind)[0], called=called) for one in values)
    if _fits(value, kind):
        return kind(value)
    raise ConfigError(f"{called} is {_shown(value)}; expected {_KINDS[kind]}.")


def _fits(value: Any, kind: type) -> bool:
    if kind is Path:
        return isinstance(value, str | Path) and str(value) != ""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _as_choice(value: Any, choices: Sequence[Any], called: str) -> Any:
    if value in choices:
        return value
    raise ConfigError(
        f"{called} is {_shown(value)}; choose {', '.join(str(one) for one in choices)}."
    )


def _shown(value: Any) -> str:
    """A value in a message: short, and texts in quotes."""
    text = json.dumps(plain(value), ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _toml(value: Any) -> str:
    value = plain(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    # a JSON text is a TOML text but for this character
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Class lists that ship with the package: `atas_deploy/words/*.toml`.

A line of `classes` there is "#rrggbb name|synonym": the plain list has the name, the expanded one
all of them; "name => word|word" replaces the name in the expanded list. Lists with equal classes
share them (`classes_of`).
"""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atas_deploy.core.class_files import parse_color
from atas_deploy.core.class_spec import (
    ClassList,
    ClassSpec,
    check_background,
    check_specs,
    make_spec,
    shorten,
)
from atas_deploy.core.errors import ConfigError

FOLDER = Path(__file__).parents[1] / "words"
EXPANDED = ":expanded"


@dataclass(frozen=True, slots=True)
class ListInfo:
    """What a built-in list is.

    Attributes:
        name: as users type it behind `@`.
        title: the data set.
        source: where names and expanded words come from, with licences.
        classes: number of classes.
        words: number of words of the expanded list.
        background: whether the list brings a background of its own.
    """

    name: str
    title: str
    source: str
    classes: int
    words: int
    background: bool


def list_names() -> list[str]:
    """Names of the built-in lists; each also exists with ":expanded" behind it."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def list_info(name: str) -> ListInfo:
    """Describe a built-in list.

    Raises:
        ConfigError: no such list.
    """
    data = _load(name)
    full = built_in_list(name + EXPANDED)
    words = sum(len(spec.synonyms) for spec in full.specs)
    return ListInfo(
        name, data["title"], data["source"], len(full.specs), words, bool(full.background)
    )


def built_in_list(name: str) -> ClassList:
    """A built-in list, plain ("voc21") or expanded ("voc21:expanded").

    Raises:
        ConfigError: no such list; names a similar one.
    """
    base, expanded, _ = name.partition(EXPANDED)
    data = _load(base, asked=name)
    lines = _load(data.get("classes_of", base))["classes"].splitlines()
    specs = check_specs(tuple(_spec(line, expanded=bool(expanded)) for line in lines))
    background = data.get("background", [])
    if expanded:
        background = data.get("expanded_background", background)
    return ClassList(specs, check_background(background, specs), base + expanded)


def _spec(line: str, *, expanded: bool) -> ClassSpec:
    color, _, words = line.partition(" ") if line.startswith("#") else (None, "", line)
    plain, _, replaced = words.partition("=>")
    chosen = (replaced or plain) if expanded else plain.split("|")[0]
    return make_spec(chosen, line, color=parse_color(color, line) if color else None)


def _load(name: str, *, asked: str | None = None) -> dict[str, Any]:
    known = list_names()
    if name in known and (asked is None or asked in (name, name + EXPANDED)):
        return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    asked = asked or name
    near = difflib.get_close_matches(shorten(asked), [*known, *(k + EXPANDED for k in known)], n=1)
    hint = f"did you mean @{near[0]}? " if near else ""
    raise ConfigError(
        f'Unknown class list "@{shorten(asked)}": {hint}Known are @{", @".join(known)}, each also '
        f"with {EXPANDED}; the name of a file needs a suffix or a folder, such as @./names."
    )

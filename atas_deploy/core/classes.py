"""Class lists: what the user asks for.

Grammar: classes are separated by commas, synonyms by `|`: "dog|puppy,grass|lawn". `@voc21` and
`@voc21:expanded` are built-in lists (`list_names`). `@names.txt` reads a file with one class a
line; blank lines and lines that start with `#` are skipped; `.json` and `.toml` files can hold
colours and a background, too. docs/words.md has the details.
"""

from collections.abc import Sequence
from pathlib import Path

from atas_deploy.core.class_files import read_class_file, read_lines
from atas_deploy.core.class_lists import built_in_list, list_names
from atas_deploy.core.class_spec import (
    MAX_CLASSES,
    ClassList,
    ClassSpec,
    check_specs,
    make_spec,
    shorten,
)
from atas_deploy.core.errors import ConfigError

__all__ = [
    "MAX_CLASSES",
    "ClassList",
    "ClassSpec",
    "list_key",
    "list_names",
    "parse_classes",
    "read_class_list",
    "shorten",
    "split_list",
]


def parse_classes(classes: str | Sequence[str]) -> tuple[ClassSpec, ...]:
    """Parse a class list; `read_class_list` without what belongs to it.

    Args:
        classes: "dog|puppy,grass", "@names.txt", "@voc20", or a sequence such as
            ["dog|puppy", "grass"].

    Returns:
        The classes in the order given; class i of a label map is item i - 1.

    Raises:
        ConfigError: empty list, empty name, a word given twice, an unreadable file.
    """
    return read_class_list(classes).specs


def read_class_list(classes: str | Sequence[str]) -> ClassList:
    """Parse a class list, with its background and name if it has them.

    Args:
        classes: as for `parse_classes`.

    Raises:
        ConfigError: as for `parse_classes`; an unknown list.
    """
    if isinstance(classes, str) and classes.startswith("@"):
        name = classes[1:].strip()
        return read_class_file(Path(name)) if _is_file_name(name) else built_in_list(list_key(name))
    items = split_list(classes, what="class")
    specs = tuple(make_spec(item, f"Class {i}") for i, item in enumerate(items, 1))
    return ClassList(check_specs(specs))


def split_list(text: str | Sequence[str], *, what: str) -> list[str]:
    """Split a comma-separated list, or read it from a file given as `@path`.

    Raises:
        ConfigError: an item is empty or not a string, or the file cannot be read.
    """
    if isinstance(text, str):
        if text.startswith("@"):
            return read_lines(Path(text[1:]), what=what)
        text = text.split(",") if text.strip() else []
    if not isinstance(text, list | tuple):
        raise ConfigError(
            f"Got {type(text).__name__} as {what} list; expected a string or a list of strings."
        )
    if wrong := [item for item in text if not isinstance(item, str)]:
        raise ConfigError(
            f"Got {shorten(repr(wrong[0]))} in a {what} list; every item must be a string."
        )
    items = [" ".join(item.split()) for item in text]
    if "" in items:
        raise ConfigError(
            f"Item {items.index('') + 1} of the {what} list is empty; remove the extra comma."
        )
    return items


def _is_file_name(name: str) -> bool:
    """A path with a folder or a suffix; a bare word only where it is no list but a file."""
    path = Path(name)
    if "/" in name or "\\" in name or path.suffix:
        return True
    return list_key(name).partition(":")[0] not in list_names() and _is_file(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # an impossible name
        return False


def list_key(name: str) -> str:
    """A built-in list's name as it is stored: it is found in any case, with `_` for `-`."""
    return name.casefold().replace("_", "-")

"""Class lists: what the user asks for.

Grammar: classes are separated by commas, synonyms by `|`: "dog|puppy,grass|lawn". `@names.txt`
reads a file with one class a line; blank lines and lines that start with `#` are skipped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atas_deploy.core.errors import ConfigError

MAX_CLASSES = 65_534  # 16-bit label maps: 0 is background, 65,535 is void


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """A class and the words that stand for it.

    Attributes:
        name: shown to the user; the first synonym.
        synonyms: every word or phrase that is matched, `name` included.
    """

    name: str
    synonyms: tuple[str, ...]


def parse_classes(classes: str | Sequence[str]) -> tuple[ClassSpec, ...]:
    """Parse a class list.

    Args:
        classes: "dog|puppy,grass", "@names.txt", or a sequence such as ["dog|puppy", "grass"].

    Returns:
        The classes in the order given; class i of a label map is item i - 1.

    Raises:
        ConfigError: empty list, empty name, a word given twice, an unreadable file.
    """
    items = split_list(classes, what="class")
    specs = tuple(_parse_class(item, number) for number, item in enumerate(items, 1))
    if not specs:
        raise ConfigError('The class list is empty; name at least one class, e.g. "dog,grass".')
    if len(specs) > MAX_CLASSES:
        raise ConfigError(f"Got {len(specs)} classes; a label map holds {MAX_CLASSES} at most.")
    _refuse_repeats(specs)
    return specs


def split_list(text: str | Sequence[str], *, what: str) -> list[str]:
    """Split a comma-separated list, or read it from a file given as `@path`.

    Raises:
        ConfigError: an item is empty or not a string, or the file cannot be read.
    """
    if isinstance(text, str):
        if text.startswith("@"):
            return _read_lines(Path(text[1:]), what=what)
        text = text.split(",") if text.strip() else []
    if not isinstance(text, list | tuple):
        raise ConfigError(
            f"Got {type(text).__name__} as {what} list; expected a string or a list of strings."
        )
    if wrong := [item for item in text if not isinstance(item, str)]:
        raise ConfigError(f"Got {wrong[0]!r} in a {what} list; every item must be a string.")
    items = [" ".join(item.split()) for item in text]
    if "" in items:
        raise ConfigError(
            f"Item {items.index('') + 1} of the {what} list is empty; remove the extra comma."
        )
    return items


def _read_lines(path: Path, *, what: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"Cannot read the {what} list {path} ({reason}); "
            f"give an existing text file with one {what} a line."
        ) from exc
    stripped = (" ".join(line.split()) for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def _parse_class(item: str, number: int) -> ClassSpec:
    synonyms = tuple(word.strip() for word in item.split("|"))
    if "" in synonyms:
        raise ConfigError(
            f'Class {number} ("{shorten(item)}") has an empty synonym; remove the extra "|".'
        )
    return ClassSpec(synonyms[0], synonyms)


def _refuse_repeats(specs: Iterable[ClassSpec]) -> None:
    owner: dict[str, str] = {}
    for spec in specs:
        for word in spec.synonyms:
            if (key := word.casefold()) in owner:
                raise ConfigError(
                    f'"{shorten(word)}" is given twice (in "{shorten(owner[key])}" and in '
                    f'"{shorten(spec.name)}"); every word may stand for one class only.'
                )
            owner[key] = spec.name


def shorten(text: str, *, limit: int = 60) -> str:
    """A text cut to a length fit for a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"

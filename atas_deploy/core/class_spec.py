"""A class, a list of classes, and what both may hold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atas_deploy.core.errors import ConfigError

MAX_CLASSES = 65_534  # 16-bit label maps: 0 is background, 65,535 is void
MAX_WORD = 1_000
"""Longest word or phrase in characters; a model reads what its context holds, far less."""

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """A class and the words that stand for it.

    Attributes:
        name: shown to the user; the first synonym.
        synonyms: every word or phrase that is matched, `name` included.
        color: RGB, 0 to 255 each; None = chosen by `atas_deploy.core.palette`.
    """

    name: str
    synonyms: tuple[str, ...]
    color: Color | None = None


@dataclass(frozen=True, slots=True)
class ClassList:
    """Classes, and the background that belongs to them.

    Attributes:
        specs: the classes; class i of a label map is item i - 1.
        background: words that compete as class 0; empty where the list has none of its own.
        name: "voc21:expanded", a file's name, or "" for words given directly.
    """

    specs: tuple[ClassSpec, ...]
    background: tuple[str, ...] = ()
    name: str = ""


def make_spec(words: str | Sequence[str], where: str, *, color: Color | None = None) -> ClassSpec:
    """A class from "dog|puppy" or from its words.

    Args:
        words: synonyms, joined by `|` or as a sequence.
        where: the place to name in messages, such as "Class 3".
        color: its colour.

    Raises:
        ConfigError: a synonym is empty or cannot be a word.
    """
    parts = words.split("|") if isinstance(words, str) else words
    synonyms = tuple(" ".join(word.split()) for word in parts)
    if "" in synonyms:
        shown = shorten("|".join(synonyms))
        raise ConfigError(f'{where} ("{shown}") has an empty synonym; remove the extra "|".')
    for word in synonyms:
        check_word(word, where)
    return ClassSpec(synonyms[0], synonyms, color)


def check_word(word: str, where: str) -> None:
    """Refuse what can be no word.

    Raises:
        ConfigError: longer than `MAX_WORD` characters, or not valid Unicode.
    """
    if len(word) > MAX_WORD:
        raise ConfigError(
            f'{where} ("{shorten(word)}") has {len(word):,} characters; a word or phrase has '
            f"{MAX_WORD:,} at most."
        )
    if any("\ud800" <= letter <= "\udfff" for letter in word):
        raise ConfigError(f'{where} ("{shorten(word)}") is not valid Unicode; write it in UTF-8.')


def check_specs(specs: tuple[ClassSpec, ...]) -> tuple[ClassSpec, ...]:
    """The classes, if they can be a list.

    Raises:
        ConfigError: none, too many, or a word that stands for two of them.
    """
    if not specs:
        raise ConfigError('The class list is empty; name at least one class, e.g. "dog,grass".')
    if len(specs) > MAX_CLASSES:
        raise ConfigError(f"Got {len(specs)} classes; a label map holds {MAX_CLASSES} at most.")
    owner: dict[str, str] = {}
    for spec in specs:
        for word in spec.synonyms:
            if (key := word.casefold()) in owner:
                raise ConfigError(
                    f'"{shorten(word)}" is given twice (in "{shorten(owner[key])}" and in '
                    f'"{shorten(spec.name)}"); every word may stand for one class only.'
                )
            owner[key] = spec.name
    return specs


def check_background(words: Iterable[str], specs: Iterable[ClassSpec]) -> tuple[str, ...]:
    """Background words without repeats.

    Raises:
        ConfigError: one of them is a class, too, or can be no word.
    """
    asked = {word.casefold() for spec in specs for word in spec.synonyms}
    chosen: dict[str, str] = {}
    for word in words:
        check_word(word, "A background word")
        if word.casefold() in asked:
            raise ConfigError(
                f'"{shorten(word)}" is both a class and a background word; remove one of the two.'
            )
        chosen.setdefault(word.casefold(), word)
    return tuple(chosen.values())


def shorten(text: str, *, limit: int = 60) -> str:
    """A text cut to a length fit for a message, without what cannot be printed."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

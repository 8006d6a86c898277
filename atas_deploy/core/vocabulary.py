"""Queries: the words that compete for each pixel, the user's and the background's.

The user's classes are 1..C; class 0, the background, has queries of its own (`--background`), so
that concrete is not labelled "grass" only because nothing better was asked for.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atas_deploy.core.background import uncovered_words
from atas_deploy.core.classes import ClassSpec, parse_classes, shorten, split_list
from atas_deploy.core.errors import ConfigError

# A handful for everyday use, after the prompts of CLIP (Radford et al., 2021).
DEFAULT_TEMPLATES = ("{}", "a photo of a {}.", "a photo of the {}.", "there is a {} in the scene.")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The queries of a class list with its background.

    Attributes:
        classes: the user's classes.
        rule: how the background was chosen: "auto", "none" or "list".
        background: the words of class 0.
        removed: words of the automatic list that the user's classes cover.
        queries: Q strings; background first, then class by class.
    """

    classes: tuple[ClassSpec, ...]
    rule: str
    background: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the user's classes; class i is item i - 1."""
        return tuple(spec.name for spec in self.classes)

    @property
    def queries(self) -> tuple[str, ...]:
        """The Q strings, background first, then class by class."""
        return (*self.background, *(word for spec in self.classes for word in spec.synonyms))

    @property
    def query_class(self) -> npt.NDArray[np.intp]:
        """Class of each query, (Q,), ascending: ties go to the lowest class."""
        sizes = [len(self.background), *(len(spec.synonyms) for spec in self.classes)]
        return np.repeat(np.arange(len(sizes)), sizes)

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 over all queries and their classes."""
        rows = zip(self.query_class.tolist(), self.queries, strict=True)
        listing = "\n".join(f"{label}\t{query}" for label, query in rows)
        return hashlib.sha256(listing.encode()).hexdigest()[:16]


def build_vocabulary(
    classes: str | Sequence[str], *, background: str | Sequence[str] = "auto"
) -> Vocabulary:
    """Parse a class list and choose its background words.

    Args:
        classes: see `atas_deploy.core.classes.parse_classes`.
        background: "auto" (generic words that the classes do not cover), "none" (every pixel gets
            a class), or a list of words in the grammar of classes.

    Raises:
        ConfigError: a list cannot be used, or one class has nothing to compete with.
    """
    specs = parse_classes(classes)
    words = [word for spec in specs for word in spec.synonyms]
    removed: tuple[str, ...] = ()
    rule = background.casefold() if isinstance(background, str) else "list"
    rule = rule if rule in ("auto", "none") else "list"
    chosen: tuple[str, ...] = ()
    if rule == "auto":
        chosen, removed = uncovered_words(words)
    elif rule == "list":
        chosen = _background_list(background, words)
    if len(specs) == 1 and not chosen:
        raise ConfigError(
            f'One class ("{shorten(specs[0].name)}") without background has nothing to compete '
            "with: every pixel would get it; add a class or use --background auto or a list."
        )
    return Vocabulary(specs, rule, chosen, removed)


def _background_list(background: str | Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    items = split_list(background, what="background word")
    chosen = tuple(dict.fromkeys(word.strip() for item in items for word in item.split("|")))
    if "" in chosen:
        raise ConfigError('The background list has an empty synonym; remove the extra "|".')
    if not chosen:
        raise ConfigError(
            'The background list is empty; name words such as "road,wall", or use "auto" or "none".'
        )
    asked = {word.casefold() for word in words}
    if clash := [word for word in chosen if word.casefold() in asked]:
        raise ConfigError(
            f'"{shorten(clash[0])}" is both a class and a background word; remove one of the two.'
        )
    return chosen

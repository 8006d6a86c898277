"""Queries: the words that compete for each pixel, the user's and the background's.

The user's classes are 1..C; class 0, the background, has queries of its own (`--background`), so
that concrete is not labelled "grass" only because nothing better was asked for.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from atas_deploy.core.background import uncovered_words
from atas_deploy.core.class_spec import ClassList, check_background
from atas_deploy.core.classes import ClassSpec, read_class_list, shorten, split_list
from atas_deploy.core.errors import ConfigError


@dataclass(frozen=True)
class Vocabulary:
    """The queries of a class list with its background.

    Attributes:
        classes: the user's classes.
        rule: how the background was chosen: "auto", "none", "list", or the name of the class list
            that brought it, such as "voc21".
        background: the words of class 0.
        removed: words of the automatic list that the user's classes cover.
        queries: Q strings; background first, then class by class.
    """

    classes: tuple[ClassSpec, ...]
    rule: str
    background: tuple[str, ...]
    removed: tuple[str, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the user's classes; class i is item i - 1."""
        return tuple(spec.name for spec in self.classes)

    @cached_property
    def queries(self) -> tuple[str, ...]:
        """The Q strings, background first, then class by class."""
        return (*self.background, *(word for spec in self.classes for word in spec.synonyms))

    @cached_property
    def query_class(self) -> npt.NDArray[np.intp]:
        """Class of each query, (Q,), ascending: ties go to the lowest class; read-only."""
        sizes = [len(self.background), *(len(spec.synonyms) for spec in self.classes)]
        query_class = np.repeat(np.arange(len(sizes)), sizes)
        query_class.setflags(write=False)
        return query_class

    @cached_property
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
        background: "auto" (the list's own background, else generic words that the classes do not
            cover), "none" (every pixel gets a class), or a list of words in the grammar of classes.

    Raises:
        ConfigError: a list cannot be used, or one class has nothing to compete with.
    """
    asked = read_class_list(classes)
    vocabulary = _with_background(asked, background)
    if len(asked.specs) == 1 and not vocabulary.background:
        raise ConfigError(
            f'One class ("{shorten(asked.specs[0].name)}") without background has nothing to '
            "compete with: every pixel would get it; add a class or use --background auto or a "
            "list."
        )
    return vocabulary


def _with_background(asked: ClassList, background: str | Sequence[str]) -> Vocabulary:
    rule = background.strip().casefold() if isinstance(background, str) else "list"
    if rule == "none":
        return Vocabulary(asked.specs, rule, (), ())
    if rule == "auto" and asked.background:
        return Vocabulary(asked.specs, asked.name, asked.background, ())
    if rule == "auto":
        words = (word for spec in asked.specs for word in spec.synonyms)
        return Vocabulary(asked.specs, rule, *uncovered_words(words))
    return Vocabulary(asked.specs, "list", _background_list(background, asked.specs), ())


def _background_list(
    background: str | Sequence[str], specs: Sequence[ClassSpec]
) -> tuple[str, ...]:
    items = split_list(background, what="background word")
    words = [word.strip() for item in items for word in item.split("|")]
    if "" in words:
        raise ConfigError('The background list has an empty synonym; remove the extra "|".')
    if not words:
        raise ConfigError(
            'The background list is empty; name words such as "road,wall", or use "auto" or "none".'
        )
    return check_background(words, specs)

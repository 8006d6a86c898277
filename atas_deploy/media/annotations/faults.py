"""Regions that were left out, and why."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.region import Region

_KEPT = 100

T = TypeVar("T")


class UnusableRegionError(AnnotationError):
    """A region as real data sets have them, of which nothing can be seen: it is left out.

    That is a box without area, a region wholly outside of its picture, or a box among masks.
    """


class Faults:
    """What is wrong with a file, told but not refused.

    Attributes:
        sentences: the first 100 of them, each naming the file and the entry.
        count: how many there are; one that comes up again counts once.
    """

    def __init__(self) -> None:
        """None so far."""
        self.sentences: list[str] = []
        self._seen: set[int] = set()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._seen)

    def note(self, sentence: str) -> None:
        """Add a fault, once."""
        if hash(sentence) in self._seen:
            return
        self._seen.add(hash(sentence))
        if len(self.sentences) < _KEPT:
            self.sentences.append(sentence)

    def collect(self, items: Iterable[T], read: Callable[[T], Region]) -> list[Region]:
        """The regions of items; those that cannot be used are left out and noted.

        Raises:
            AnnotationError: one is not as it should be.
        """
        found = []
        for item in items:
            try:
                found.append(read(item))
            except UnusableRegionError as fault:
                self.note(str(fault))
        return found

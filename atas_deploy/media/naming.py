"""Names that are unlike within one folder, also where case is ignored."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TypeVar

T = TypeVar("T")


def unique_names(
    items: Sequence[T], *, short: Callable[[T], str] = str, long: Callable[[T], str] = str
) -> Iterator[str]:
    """Name each item by its short name, where others want that too by its long one, then -2, -3 ….

    The order of the items decides who is numbered.

    Args:
        items: What needs names, as the files of one folder.
        short: The wanted name of an item.
        long: Its name where several want the same short one.

    Yields:
        One name for each item, in order.
    """
    if len({short(item).casefold() for item in items}) == len(items):
        yield from map(short, items)  # without the names of a million files in memory
        return
    wanted = Counter(short(item).casefold() for item in items)
    taken: set[str] = set()
    numbers: dict[str, Iterator[int]] = {}
    for item in items:
        name = short(item)
        if wanted[name.casefold()] > 1:
            name = long(item)
            further = numbers.setdefault(name.casefold(), count(2))
            while wanted[name.casefold()] == 1 or name.casefold() in taken:
                name = f"{long(item)}-{next(further)}"
            taken.add(name.casefold())
        yield name


def stem(file: str) -> str:
    """Return the name of a file without its suffix."""
    return os.path.splitext(file)[0]  # noqa: PTH122

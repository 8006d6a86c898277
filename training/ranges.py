"""Which numbers an option may have; what is out of its range trains nothing sensible."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from atas_deploy.core.errors import ConfigError


class Range(NamedTuple):
    """Some of the numbers.

    Attributes:
        words: which, as a message has them.
        holds: whether a number is one of them.
    """

    words: str
    holds: Callable[[float], bool]


COUNT = Range("1 or more", lambda x: 1 <= x < math.inf)
NOT_NEGATIVE = Range("0 or more", lambda x: 0 <= x < math.inf)
POSITIVE = Range("a number above 0", lambda x: 0 < x < math.inf)
POSITIVE_OR_INFINITE = Range("a number above 0, or inf", lambda x: x > 0)
SHARE = Range("a number from 0 to 1", lambda x: 0 <= x <= 1)
POSITIVE_SHARE = Range("a number above 0, 1 at most", lambda x: 0 < x <= 1)


def check_ranges(
    options: object, ranges: Mapping[str, Range], *, called: Callable[[str], str] = str
) -> None:
    """Refuse options that are out of their ranges; None is in every one.

    Args:
        options: has them as attributes: numbers, sequences of them, or None.
        ranges: by name of the attribute.
        called: what to call an option in a message, from its name.

    Raises:
        ConfigError: there is one.
    """
    for name, (words, holds) in ranges.items():
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not holds(number):
                raise ConfigError(f"{called(name)} is {number}; give {words}.")

"""Which numbers an option may have."""

import math
from types import SimpleNamespace

import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.ranges import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_OR_INFINITE,
    POSITIVE_SHARE,
    SHARE,
    Range,
    check_ranges,
)

BELOW, ABOVE = math.nextafter(0, -1), math.nextafter(0, 1)


@pytest.mark.parametrize(
    ("numbers", "inside", "outside"),
    [
        (COUNT, (1, 10**9), (0, -1, math.inf, math.nan)),
        (NOT_NEGATIVE, (0, 0.0, 5), (BELOW, -3, math.inf, math.nan)),
        (POSITIVE, (ABOVE, 7), (0, 0.0, -1, math.inf, math.nan)),
        (POSITIVE_OR_INFINITE, (ABOVE, 7, math.inf), (0, -1, -math.inf, math.nan)),
        (SHARE, (0, 0.5, 1), (BELOW, 1.001, math.nan)),
        (POSITIVE_SHARE, (ABOVE, 1), (0, 1.001, -0.5, math.nan)),
    ],
)
def test_ends_of_ranges(
    numbers: Range, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    """What is inside passes, alone and in a list; what is outside is named with what to give."""
    check_ranges(SimpleNamespace(x=inside), {"x": numbers})
    for value in outside:
        for given in (value, (*inside, value)):
            with pytest.raises(ConfigError) as caught:
                check_ranges(SimpleNamespace(x=given), {"x": numbers})
            assert str(caught.value) == f"x is {value}; give {numbers.words}."


def test_what_is_not_set_is_in_every_range() -> None:
    """None stands for a default that is found later."""
    check_ranges(SimpleNamespace(x=None, y=()), {"x": POSITIVE, "y": COUNT})


def test_an_option_may_be_called_otherwise() -> None:
    """As the command line spells it."""
    with pytest.raises(ConfigError, match=r"^--x is 0; give 1 or more\.$"):
        check_ranges(SimpleNamespace(x=0), {"x": COUNT}, called=lambda name: f"--{name}")

"""Settings of a segmentation: those of a preset, with what was given put in, checked."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import isfinite
from numbers import Real
from typing import Any

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.presets import Protocol
from atas_deploy.core.readouts import check_readout
from atas_deploy.runtime.windows import MERGES, check_windows

REFINEMENTS = ("none", "pamr")

_NAMES = {"refine": "refinement", "denoise": "denoising"}


def settle(protocol: Protocol, **given: Any) -> Protocol:
    """Put what was given into a protocol; a window of one's own brings no stride of the preset's.

    All that needs no model is checked, so that none is exported for settings that cannot be used.

    Raises:
        ConfigError: a value cannot be used.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if "window" in chosen:
        chosen.setdefault("stride", None)
    settled = replace(protocol, **{name: _checked(name, value) for name, value in chosen.items()})
    check_windows(settled.window, settled.stride, merge=settled.merge)
    return settled


def _checked(name: str, value: Any) -> Any:
    """A setting as `Protocol` has it: numbers as Python's own, which run.json can hold."""
    what = _NAMES.get(name, name.replace("_", " "))
    match name:
        case "readout":
            return check_readout(value)
        case "merge":
            check_choice(what, value, MERGES)
        case "refine":
            check_choice(what, value, REFINEMENTS)
        case "threshold" | "denoise":
            return check_number(what, value, "a probability in [0, 1]", lambda p: 0 <= p <= 1)
        case "logit_scale":
            return check_number(what, value, "a number above 0", lambda s: s > 0)
        case "short_side" | "window" | "stride" if value is not None:  # a stride may be unset
            return check_whole(what, value, "a whole number of pixels above 0")
    return value


def check_batch_size(batch_size: int) -> int:
    """A batch size as an int.

    Raises:
        ConfigError: it is none.
    """
    return check_whole("batch size", batch_size, "a whole number above 0")


def check_choice(what: str, got: str, known: Iterable[str]) -> None:
    """Refuse a name that is none of those known.

    Raises:
        ConfigError: it is not.
    """
    if got not in (names := list(known)):
        raise ConfigError(f'Unknown {what} "{got}"; expected {", ".join(names)}.')


def check_number(what: str, got: float, expected: str, fits: Callable[[float], bool]) -> float:
    """A finite number that fits; a truth value is no number.

    Raises:
        ConfigError: it is none, or does not fit.
    """
    is_number = isinstance(got, Real) and not isinstance(got, bool)
    if not (is_number and isfinite(got) and fits(float(got))):
        raise ConfigError(f"The {what} is {got!r}; expected {expected}.")
    return float(got)


def check_whole(what: str, got: float, expected: str) -> int:
    """A whole number from 1 on.

    Raises:
        ConfigError: it is none.
    """
    return int(check_number(what, got, expected, lambda x: 1 <= x == int(x)))

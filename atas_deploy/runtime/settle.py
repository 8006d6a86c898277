"""Settings of a segmentation: those of a preset, with what was given put in, checked."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.presets import Protocol
from atas_deploy.runtime.windows import MERGES

REFINEMENTS = ("none", "pamr")


def settle(protocol: Protocol, **given: Any) -> Protocol:
    """Put what was given into a protocol; a window of one's own brings no stride of the preset's.

    Raises:
        ConfigError: a value cannot be used.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if "window" in chosen:
        chosen.setdefault("stride", None)
    settled = replace(protocol, **chosen)
    for what, value in (("threshold", settled.threshold), ("denoising", settled.denoise)):
        _check_number(what, value, "a probability in [0, 1]", lambda p: 0 <= p <= 1)
    _check_number("logit scale", settled.logit_scale, "a number above 0", lambda s: 0 < s < np.inf)
    for name in ("short_side", "window", "stride"):
        what = name.replace("_", " ")
        _check_number(what, getattr(settled, name), "a number of pixels", lambda x: x == int(x))
    check_choice("refinement", settled.refine, REFINEMENTS)
    check_choice("merge", settled.merge, MERGES)
    return settled


def _check_number(
    what: str, got: float | None, expected: str, fits: Callable[[float], bool]
) -> None:
    if got is not None and not (isinstance(got, Real) and np.isfinite(got) and fits(got)):
        raise ConfigError(f"The {what} is {got!r}; expected {expected}.")


def check_choice(what: str, got: str, known: Iterable[str]) -> None:
    """Refuse a name that is none of those known.

    Raises:
        ConfigError: it is not.
    """
    if got not in (names := list(known)):
        raise ConfigError(f'Unknown {what} "{got}"; expected {", ".join(names)}.')

"""Optimisation profiles: the sizes that an engine takes, and the one that it is fastest at.

B images, H W pixels
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from atas_deploy.core.errors import ConfigError, InputError

Shape = tuple[int, int, int]
_FORM = re.compile(r"\d+x\d+x\d+", re.ASCII)
_BATCH, _CROPS = 8, 32  # images at most: of pictures or frames, and of crops
_WIDE = 16 / 9


@dataclass(frozen=True, slots=True)
class Profile:
    """A range of (B, H, W).

    Attributes:
        least: of each axis.
        best: what the engine is tuned for.
        most: of each axis.
    """

    least: Shape
    best: Shape
    most: Shape

    def __str__(self) -> str:
        """As on the command line, "1x336x336:1x336x592:1x672x672"."""
        parts = dict.fromkeys((self.least, self.best, self.most))
        shapes = (self.least,) if len(parts) == 1 else (self.least, self.best, self.most)
        return ":".join("x".join(map(str, shape)) for shape in shapes)

    def takes(self, shape: Shape) -> bool:
        """Whether a shape lies inside."""
        return self.nearest(shape) == tuple(shape)

    def nearest(self, shape: Shape) -> Shape:
        """The shape inside that is nearest to another one, axis by axis."""
        axes = zip(shape, self.least, self.most, strict=True)
        batch, height, width = (min(max(side, low), high) for side, low, high in axes)
        return batch, height, width


def parse_profile(text: str, *, multiple: int) -> Profile:
    """Read a profile from the command line.

    Args:
        text: "BxHxW" for one shape, or "LEAST:BEST:MOST" with three of these.
        multiple: of this, H and W are multiples.

    Raises:
        ConfigError: it is written otherwise, or its numbers cannot be a range.
    """
    parts = text.lower().split(":")
    if len(parts) not in (1, 3) or not all(_FORM.fullmatch(part) for part in parts):
        raise ConfigError(
            f'The profile "{text}" is not of the form BxHxW or LEAST:BEST:MOST; write for example '
            "1x336x336:1x336x592:1x672x672."
        )
    shapes = [_shape(part) for part in parts]
    profile = Profile(shapes[0], shapes[len(shapes) // 2], shapes[-1])
    _check(profile, text, multiple=multiple)
    return profile


def default_profiles(*, short_side: int, trained_size: int, multiple: int) -> tuple[Profile, ...]:
    """Three narrow profiles: one picture or frame, a batch of them, and a batch of square crops.

    With the short side S: H and W from S to 2 S, so that every picture fits that is encoded at S
    and is at most twice as long as it is short, upright or not; tuned for 16:9.

    Args:
        short_side: recommended shorter side in pixels.
        trained_size: side of the squares that the class token was trained on.
        multiple: of this, H and W are multiples.
    """
    side = _rounded(short_side, multiple)
    wide, square = _rounded(side * _WIDE, multiple), max(1, trained_size // multiple) * multiple
    return (
        Profile((1, side, side), (1, side, wide), (1, 2 * side, 2 * side)),
        Profile((2, side, side), (_BATCH, side, wide), (_BATCH, 2 * side, 2 * side)),
        Profile((1, square, square), (_BATCH, square, square), (_CROPS, square, square)),
    )


def choose(profiles: Sequence[Profile], shape: Shape) -> int:
    """The number of the profile to run a shape with: of those that take it, the best tuned one.

    Args:
        profiles: of the engine, at least one.
        shape: (B, H, W).

    Raises:
        InputError: none takes it; names the ranges and the nearest shape that one takes.
    """
    fitting = [index for index, profile in enumerate(profiles) if profile.takes(shape)]
    if fitting:
        return min(fitting, key=lambda index: _distance(profiles[index].best, shape))
    nearest = min((p.nearest(shape) for p in profiles), key=lambda near: _distance(near, shape))
    ranges = "; ".join(
        f"min {_text(p.least)}, opt {_text(p.best)}, max {_text(p.most)}" for p in profiles
    )
    raise InputError(
        f"Images of {_text(shape)} (batch, height, width) fit no profile of the engine ({ranges}); "
        f"the nearest allowed size is {_text(nearest)}: use it, or export again with --trt "
        f"--profile {'x'.join(map(str, shape))}."
    )


def proof_shapes(profiles: Sequence[Profile]) -> tuple[Shape, ...]:
    """Shapes (B, H, W) to prove an engine at: of each profile the best H and W, and the least.

    One image or two: a backend fills up a batch, so these prove profiles of any B.
    """
    shapes: list[Shape] = []
    for profile in profiles:
        shapes += [(min(2, profile.best[0]), *profile.best[1:]), (1, *profile.least[1:])]
    return tuple(dict.fromkeys(shapes))


def _check(profile: Profile, text: str, *, multiple: int) -> None:
    ordered = zip(profile.least, profile.best, profile.most, strict=True)
    if not all(1 <= least <= best <= most for least, best, most in ordered):
        raise ConfigError(
            f'The profile "{text}" is no range; every number must be 1 or more and LEAST <= BEST '
            "<= MOST on each axis."
        )
    sides = [side for shape in (profile.least, profile.best, profile.most) for side in shape[1:]]
    for side in sides:
        if side % multiple:
            near = _rounded(side, multiple)
            raise ConfigError(
                f'The profile "{text}" has a side of {side} pixels; this model takes multiples of '
                f"{multiple}, such as {near}."
            )


def _shape(text: str) -> Shape:
    batch, height, width = (int(number) for number in text.split("x"))
    return batch, height, width


def _rounded(length: float, multiple: int) -> int:
    """The nearest multiple, at least one, as `core.geometry.encoder_size` rounds."""
    return max(1, round(length / multiple)) * multiple


def _distance(a: Shape, b: Shape) -> float:
    return sum(abs(math.log(x / y)) for x, y in zip(a, b, strict=True))


def _text(shape: Shape) -> str:
    return " x ".join(map(str, shape))

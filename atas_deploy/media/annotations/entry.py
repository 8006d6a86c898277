"""A place in a file of annotations, and the numbers that stand there."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atas_deploy.core.class_spec import shorten
from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Box
from atas_deploy.media.annotations.faults import UnusableRegionError

_DIGITS = 18  # of a number in text


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in a file, to be named in messages.

    Attributes:
        path: of the file.
        name: as in "annotation 17" or "line 3".
    """

    path: Path
    name: str

    def error(self, what: str, cure: str) -> AnnotationError:
        """What is wrong with the entry, as in "has no bbox", and what to do about it."""
        return AnnotationError(f"{self.path}: {self.name} {what}: {cure}")

    def unusable(self, what: str, cure: str) -> UnusableRegionError:
        """Why the region of the entry is left out, and what to do about it."""
        return UnusableRegionError(f"{self.path}: {self.name} {what}, so it was left out: {cure}")

    def number(self, value: Any, name: str) -> float:
        """A finite number.

        Raises:
            AnnotationError: it is none.
        """
        if type(value) in (int, float):  # True is no number here
            try:
                if math.isfinite(value):
                    return float(value)
            except OverflowError:
                pass
        raise self.error(f"has the {name} {show(value)}, expected a number", "correct it")

    def whole(self, value: Any, name: str) -> int:
        """A whole number; 3.0 and "3" are some, too.

        Raises:
            AnnotationError: it is none.
        """
        if type(value) is int:
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
            return int(value)
        raise self.error(f"has the {name} {show(value)}, expected a whole number", "correct it")

    def parse(self, text: str, name: str) -> float:
        """A finite number from text.

        Raises:
            AnnotationError: it is none.
        """
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"has the {name} {show(text)}, expected a number", "correct it")
        return value

    def parse_whole(self, text: str, name: str) -> int:
        """A whole number from text; "3.0" is one.

        Raises:
            AnnotationError: it is none.
        """
        value = self.parse(text, name)
        if value != int(value):
            raise self.error(f"has the {name} {show(text)}, expected a whole number", "correct it")
        return int(value)

    def score(self, value: float) -> float:
        """A confidence.

        Raises:
            AnnotationError: it is not in [0, 1].
        """
        if not 0 <= value <= 1:
            raise self.error(
                f"has the score {value:g}, expected one from 0 to 1", "scale the scores to that"
            )
        return value

    def box(self, x0: float, y0: float, width: float, height: float) -> Box:
        """A box (x0, y0, x1, y1) of a corner and sizes, wherever it lies; it may have no area.

        Raises:
            AnnotationError: a size is negative.
        """
        if width < 0 or height < 0:
            raise self.error(
                f"has a box {width:g} wide and {height:g} high, expected sizes above 0",
                "correct or remove it",
            )
        return x0, y0, x0 + width, y0 + height

    def clip(self, box: Box, size: Size) -> Box:
        """The part of a box that lies in a picture of a size (H, W).

        Raises:
            UnusableRegionError: there is none.
        """
        x0, y0, x1, y1 = box
        height, width = size
        if not (x1 > x0 and y1 > y0):
            raise self.unusable(
                f"has a box {x1 - x0:g} wide and {y1 - y0:g} high", "correct or remove it"
            )
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise self.unusable(
                f"has the box ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}), which lies outside of the "
                f"picture of {width} x {height} pixels",
                "correct or remove it, or give the picture that it belongs to",
            )
        return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def show(value: Any) -> str:
    """A value for a message, not longer than a few words."""
    return shorten(repr(value), limit=40)

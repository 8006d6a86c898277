"""The part of a video that is wanted, and time stamps that make sense."""

import math
from dataclasses import dataclass
from fractions import Fraction

from atas_deploy.core.errors import ConfigError

_ROUNDING = 1e-6  # seconds; times in results have six digits
_LONGEST_GAP = 10.0  # seconds by which the clock of a live stream may jump forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Frames with a time stamp from start to before end, in seconds.

    Attributes:
        start: None begins with the first frame.
        end: None goes on to the last.
    """

    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"Got {name} {value}, expected seconds from 0 on")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ConfigError(f"Got start {self.start} and end {self.end}: start must come first")

    def __str__(self) -> str:
        since = [] if self.start is None else [f"from {self.start:g} s on"]
        until = [] if self.end is None else [f"before {self.end:g} s"]
        return " and ".join(since + until) or "at any time"

    def is_before(self, time: float) -> bool:
        """Tell whether a time lies before the span."""
        return self.start is not None and time < self.start - _ROUNDING

    def is_behind(self, time: float) -> bool:
        """Tell whether a time lies behind the span."""
        return self.end is not None and time >= self.end - _ROUNDING

    def shorten(self, length: float | None, *, begin: float) -> float | None:
        """Return how much of a video lies in the span.

        Args:
            length: Of the video, in seconds; None if unknown.
            begin: Time of its first frame.
        """
        start = max(begin, self.start or 0)
        ends = [] if length is None else [begin + length]
        ends += [] if self.end is None else [self.end]
        return max(0.0, min(ends) - start) if ends else None


class Clock:
    """Time stamps for frames in the order in which they come.

    Those of a file are kept, and missing ones continue at the frame rate. Those of a live stream
    count from its first frame, and where they jump back, or far forward, they continue too.
    """

    def __init__(self, *, time_base: Fraction, step: int, live: bool) -> None:
        self._step = step
        self._live = live
        self._farthest = round(_LONGEST_GAP / time_base)
        self._shift = 0
        self._last: int | None = None

    def stamp(self, pts: int | None) -> int:
        """Return the time stamp of the next frame, in ticks."""
        due = 0 if self._last is None else self._last + self._step
        stamp = due if pts is None else pts + self._shift
        if self._live and pts is not None and not self._follows(stamp):
            self._shift, stamp = due - pts, due
        self._last = stamp
        return stamp

    def _follows(self, stamp: int) -> bool:
        return self._last is not None and 0 < stamp - self._last <= self._farthest

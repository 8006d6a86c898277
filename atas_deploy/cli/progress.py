"""Progress: a bar with rate and ETA on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from contextlib import suppress
from typing import Any

import click

_SECONDS_BETWEEN_LINES = 10.0


def printable(text: str) -> str:
    """A text without control characters, which could move the cursor or break a line in two."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Print a line on standard error; a run does not end because nobody listens."""
    with suppress(OSError):
        click.echo(printable(text), err=True)


class Bar:
    """A tqdm bar on standard error."""

    def begin(self, name: str, *, total: int | None, unit: str) -> None:
        """Show a bar."""
        from tqdm import tqdm

        self._bar: Any = tqdm(total=total, desc=printable(name), unit=unit, dynamic_ncols=True)

    def advance(self, count: int = 1) -> None:
        """Move on."""
        self._bar.update(count)

    def end(self) -> None:
        """Leave the bar as it is, on a line of its own."""
        if hasattr(self, "_bar"):
            self._bar.total = self._bar.n
            self._bar.close()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        from tqdm import tqdm

        tqdm.write(printable(text), file=sys.stderr)


class Lines:
    """A plain line on standard error, at most one in ten seconds, and one at the end."""

    def begin(self, name: str, *, total: int | None, unit: str) -> None:
        """Start counting."""
        self._name, self._unit, self._total = printable(name), unit, total
        self._count, self._start = 0, time.monotonic()
        self._last = self._start

    def advance(self, count: int = 1) -> None:
        """Count; print a line now and then."""
        self._count += count
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._print()

    def end(self) -> None:
        """Print the total."""
        if hasattr(self, "_count") and self._count:
            self._total = None
            self._print()
            self._count = 0

    def note(self, text: str) -> None:
        """Print a line."""
        say(text)

    def _print(self) -> None:
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self._count / seconds
        of = f"/{self._total}" if self._total else ""
        left = (self._total - self._count) / rate if self._total and rate else 0
        eta = f", {left:.0f} s left" if left > 0 else ""
        unit = self._unit if self._count == 1 and not of else f"{self._unit}s"
        slow = 0 < rate < 1
        speed = f"{1 / rate:.1f} s/{self._unit}" if slow else f"{rate:.1f} {self._unit}s/s"
        say(f"{self._name}: {self._count}{of} {unit}, {speed}{eta}")


class Silent:
    """Says nothing."""

    def begin(self, name: str, *, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


Progress = Bar | Lines | Silent


class PromptProgress:
    """Tells how far the encoding of words is, where that takes long."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, -1  # -1: not begun

    def __call__(self, done: int, total: int) -> None:
        """Take in how many of the prompts are encoded."""
        if self._done < 0:
            self._progress.begin("words", total=total, unit="prompt")
            self._done = 0
        self._progress.advance(done - self._done)
        self._done = done
        if done >= total:
            self._progress.end()
            self._done = -1


def make_progress(*, quiet: bool) -> Progress:
    """The progress fit for where standard error goes."""
    if quiet:
        return Silent()
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return Bar() if on_terminal else Lines()

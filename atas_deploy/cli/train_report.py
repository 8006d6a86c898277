"""What `atas-deploy train` says: on the way, and at the end."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from atas_deploy.cli.progress import Progress, say

if TYPE_CHECKING:
    from atas_deploy.training.train import TrainOutcome

_SHOWN = 10
_LIKENESS = {"class_cosine": "whole images", "patch_cosine": "patches"}


def show_row(row: Mapping[str, float], progress: Progress) -> None:
    """Print a row of the log, above the bar if there is one."""
    rest = [f"{name} {value:.4f}" for name, value in row.items() if name not in _PLAIN]
    speed = row.get("images_per_second")
    if speed is not None:
        rest.append(f"{speed:.1f} images/s")
    progress.note(f"step {row['step']}: {', '.join(rest)}, rate {row['lr']:.2e}")


_PLAIN = ("step", "lr", "seconds", "images_per_second")


def complain(broken: Mapping[str, str]) -> None:
    """Name images that could not be read."""
    for name, reason in list(broken.items())[:_SHOWN]:
        say(f"skipped {name}: {reason}")
    if len(broken) > _SHOWN:
        say(f"skipped {len(broken) - _SHOWN} more images")


def conclude(outcome: "TrainOutcome") -> Iterator[str]:
    """What came out, a line each."""
    from atas_deploy.training.check import to_sentence

    row = outcome.row
    loss = f", loss {row['loss']:.4f}" if "loss" in row else ""
    yield f"{outcome.folder}: {outcome.step} step{'s' * (outcome.step != 1)}{loss}"
    alike = [f"{what} {row[name]:.3f}" for name, what in _LIKENESS.items() if name in row]
    if alike:
        yield f"cosine to the start: {', '.join(alike)}"
    for readout, change in outcome.changes.items():
        yield f"{readout}: {to_sentence(change)}"


def advise(folder: Path) -> str:
    """What to do next."""
    model = shlex.quote(str(folder))
    return f'next: atas-deploy segment photo.jpg --classes "dog,grass" --model {model}'


def way_on(outcome: "TrainOutcome") -> str:
    """How to go on with a run that was stopped."""
    folder = shlex.quote(str(outcome.folder))
    return f"Stopped at step {outcome.step}: atas-deploy train --resume --out {folder} goes on."

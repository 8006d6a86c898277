"""Training state on disk, each file whole or not there at all; beside the model (clip/folder.py).

folder/checkpoint.pt   what `--resume` needs: weights, optimizer, step
folder/log.jsonl       one line per logged step
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from atas_deploy.core.errors import CheckpointError, OutputError
from atas_deploy.core.files import atomic_path, output_error

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
_STATE = {"step": int, "settings": Mapping, "model": Mapping, "optimizer": Mapping}


def make_folder(folder: Path) -> Path:
    """Create the folder of a run.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    return folder


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a run.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with atomic_path(folder / CHECKPOINT) as part:
            torch.save(dict(state), part)
    except RuntimeError as exc:  # torch's zip writer hides the operating system's error
        raise OutputError(
            f"Cannot write {folder / CHECKPOINT} ({exc}): free some space or choose another disk"
        ) from exc


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the state of a run.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds no {CHECKPOINT} to resume from; leave --resume out to start."
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # pickle, zip and torch errors share no base class
        raise CheckpointError(
            f"{path} cannot be read ({type(exc).__name__}); delete it and start again."
        ) from exc
    if not _is_state(state):
        raise CheckpointError(
            f"{path} is no checkpoint of a run of atas-deploy; move it elsewhere and start again."
        )
    return state


def _is_state(state: object) -> bool:
    """Whether this is what a run saves."""
    return isinstance(state, dict) and all(
        isinstance(state.get(name), kind) for name, kind in _STATE.items()
    )


def append_log(folder: Path, row: Mapping[str, float | int]) -> None:
    """Add one line to the run's log.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as exc:
        raise output_error(folder / LOG, exc) from exc


def cut_log(folder: Path, *, steps: int) -> dict[str, float]:
    """Forget log lines of steps that a resumed run will take again; return the last one left.

    Lines that are no rows, as a crash or a full disk leaves them, are forgotten, too.

    Raises:
        OutputError: the file cannot be written.
    """
    path = folder / LOG
    if not path.exists():
        return {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise output_error(path, exc) from exc
    kept = [row for row in map(_log_row, lines) if row and row["step"] <= steps]
    _write_text(path, "".join(f"{json.dumps(row)}\n" for row in kept))
    return kept[-1] if kept else {}


def _log_row(line: bytes) -> dict[str, float]:
    """A line of the log; {} if it is no object of numbers with "step"."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (RecursionError, ValueError):
        return {}
    numbers = isinstance(row, dict) and all(isinstance(v, int | float) for v in row.values())
    return row if numbers and "step" in row else {}


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")

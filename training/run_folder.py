"""The folder of a run: where it lies, whether it is free, and what it says about the run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atas_deploy.clip.weights import MODEL_WEIGHTS, TRAINING_RECORD
from atas_deploy.core.bundle import MODEL_CONFIG
from atas_deploy.core.errors import CheckpointError, ConfigError
from atas_deploy.core.files import atomic_path
from atas_deploy.runtime.run_files import discard_leftovers
from atas_deploy.training.checkpoint import CHECKPOINT, LOG
from atas_deploy.training.config import RUN_FILE, as_kind, read_run_file, to_toml
from atas_deploy.training.options import flag
from atas_deploy.training.resolve import Given, Run, resolve

RUNS = Path("runs")

_FILES = (CHECKPOINT, LOG, RUN_FILE, MODEL_CONFIG, MODEL_WEIGHTS, TRAINING_RECORD)

# What a run that goes on may have otherwise; so may it what the labelled check needs.
_FREE = (
    "images",
    "device",
    "workers",
    "max_broken",
    "log_every",
    "save_every",
    "tensorboard",
    "grad_checkpointing",
    "compile",
    "teacher_cache",
    "alpha",
    "record_readout",
    "on_collapse",
)


def default_folder(images: Sequence[str]) -> Path:
    """runs/NAME, named after the first source of images: its last part that is no pattern."""
    first = Path(images[0])
    path = first.with_suffix("") if first.suffix in (".txt", ".tar") else first
    parts = (re.split(r"[{*?\[]", part)[0] for part in reversed(path.absolute().parts[1:]))
    return RUNS / next(filter(None, (part.strip(" -_.") for part in parts)), "images")


def settle(
    said: Mapping[str, Any], *, config: Path | None, out: Path | None, resume: bool
) -> tuple[Path, Run]:
    """Settle the folder and the options of a new run, or of one that goes on.

    Args:
        said: what the command line says, by name of the option.
        config: run file to take other options from; may name the folder as `out`.
        out: folder of the run.
        resume: go on with the run there; it keeps its options.

    Raises:
        ConfigError: an option cannot be used, or not in a run that goes on.
        CheckpointError: the folder holds a run that is not to go on, or none that could.
    """
    places, named = gather(said, config=config)
    out = named if out is None else out
    if out is None:
        images = [place.values["images"] for place in places if "images" in place.values]
        if not images:
            what = "the folder of the run with --out" if resume else "a folder with --images"
            raise ConfigError(f"Got no images to train on; name {what}.")
        out = default_folder(as_kind(images[-1], tuple[str, ...], called="images"))
    check_free(out, resume=resume)
    saved = out / RUN_FILE
    if not resume or not saved.is_file():
        run = resolve(*places)
        check_start(run, out)
        return out, run
    before = Given(read_run_file(saved), saved)
    run = resolve(before)
    for method in (place.values["method"] for place in places if "method" in place.values):
        if method != run.method:
            raise _other("method", run.method, method, out)
    now = resolve(before, *places)
    _check_same(run, now, out)
    return out, now


def check_start(run: Run, folder: Path) -> None:
    """Refuse to write the model over the one that training starts from.

    Raises:
        ConfigError: both are in one folder.
    """
    start = Path(run.options.model)
    if start.is_dir() and start.resolve() == folder.resolve():
        raise ConfigError(
            f"{folder} holds the model to start from; name another folder for the run with --out."
        )


def gather(said: Mapping[str, Any], *, config: Path | None) -> tuple[list[Given], Path | None]:
    """What a run file and the command line say, the weightiest last, and the folder it names.

    Raises:
        ConfigError: the run file cannot be read.
    """
    if config is None:
        return [Given(said)], None
    values = read_run_file(config)
    out = as_kind(values.pop("out", None), Path | None, called=f"out in {config}")
    return [Given(values, config), Given(said)], out


def check_free(folder: Path, *, resume: bool) -> None:
    """Refuse to overwrite a run by accident, or to go on with none.

    Raises:
        CheckpointError: the folder holds a run and `resume` is not asked for, or none and it is.
    """
    found = (folder / CHECKPOINT).exists()
    if found and not resume:
        raise CheckpointError(
            f"{folder} holds a run already; go on with it by --resume, or choose another folder "
            "with --out."
        )
    if resume and not found:
        raise CheckpointError(
            f"{folder} holds no {CHECKPOINT} to resume from; name the folder of the run with "
            "--out, or leave --resume out to start."
        )


def write_run_file(folder: Path, run: Run) -> None:
    """Write every option of a run, for --resume and --config.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(folder / RUN_FILE) as part:
        part.write_text(to_toml(run.values()), encoding="utf-8")


def discard_parts(folder: Path) -> None:
    """Remove what runs that were killed in the middle of a file left beside it.

    Args:
        folder: of a run; nobody else may write there.
    """
    discard_leftovers(folder / name for name in _FILES)


def _check_same(before: Run, now: Run, folder: Path) -> None:
    """Refuse options that would make another run of one that goes on.

    Raises:
        ConfigError: there is one.
    """
    was, is_ = before.values(), now.values()
    for name in {**was, **is_}:
        old, new = was.get(name), is_.get(name)
        if old != new and name not in _FREE and not name.startswith("check_"):
            raise _other(name, old, new, folder)


def _other(name: str, old: object, new: object, folder: Path) -> ConfigError:
    old, new = ("unset" if value is None else value for value in (old, new))
    return ConfigError(
        f"The run in {folder} was started with {flag(name)} {old}, not {new}; leave it out to go "
        "on, or start a new run in another folder with --out."
    )

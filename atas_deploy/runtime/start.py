"""How a run begins: anew, or where an earlier one stopped."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.files import check_writable
from atas_deploy.media.video.encoders import choose_encoder
from atas_deploy.runtime.derived import format_files
from atas_deploy.runtime.lock import locked
from atas_deploy.runtime.options import FORMATS, JobOptions
from atas_deploy.runtime.record import RunRecord, check_same
from atas_deploy.runtime.resume import DoneSources, take_over
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.tally import Tally


@dataclass(frozen=True, slots=True)
class Start:
    """What a run finds done already.

    Attributes:
        done: sources that need no turn.
        tally: of the lines in the journal.
    """

    done: DoneSources
    tally: Tally


def begin(record: RunRecord, options: JobOptions, locks: ExitStack) -> Start:
    """Take the folder, refuse what must not be mixed, and write run.json.

    Args:
        record: of the run that begins.
        options: whether to go on, or to start anew over existing results.
        locks: held until the end of the run.

    Raises:
        ConfigError: another run is at work in the folder, or its results are there and neither
            `resume` nor `force` is on, or they were made with other settings.
        OutputError: the folder cannot be written.
    """
    files = record.files
    locks.enter_context(locked(files))
    shards = [] if files.shard else files.shards()
    for shard in shards:
        locks.enter_context(locked(shard))
    items = [] if files.shard else files.items()
    for item in items:
        with locked(item):  # a worker of a run that was killed may not be gone yet
            pass
    _refuse_mixture(files, force=options.force)
    _refuse_overwrite(files, options)
    if options.resume:
        return _resume(record, shards, items)
    _replace((files, *shards, *items))
    return _fresh(record)


def _replace(runs: Sequence[RunFiles]) -> None:
    """Remove the record of an earlier run, and the formats made of it."""
    if runs[0].shard is None and any(run.exists() for run in runs):
        _remove_formats(runs[0], format_files(FORMATS))
    for run in runs:
        run.remove()


def _remove_formats(run: RunFiles, names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            (run.folder / name).unlink()


def _fresh(record: RunRecord) -> Start:
    tally = Tally()
    record.write(tally)
    return Start(DoneSources.named(iter(())), tally)


def _resume(record: RunRecord, shards: list[RunFiles], items: list[RunFiles]) -> Start:
    earlier = [run for run in (record.files, *shards) if run.exists()]
    told = [check_same(record.settings, run) for run in earlier]
    if not earlier:
        return _fresh(record)
    record.force |= any(bool(run.get("force")) for run in told)
    # they may not match the journal any more; while run.json still names them, as a kill may come
    _remove_formats(record.files, format_files([which for run in told for which in _made(run)]))
    record.write(Tally())  # before shards are removed: a journal always has its settings beside it
    done, tally = take_over(record.files, parts=[*shards, *items])
    return Start(done, tally)


def _made(run: Mapping[str, Any]) -> list[str]:
    """The formats that a run made, by its run.json."""
    return [which for which in FORMATS if which in (run.get("formats") or ())]


def _refuse_mixture(files: RunFiles, *, force: bool) -> None:
    """Refuse to add a shard to results that were not made in as many parts."""
    if files.shard is None:
        return
    others = [run for run in files.shards() if run.shard and run.shard[1] != files.shard[1]]
    whole = RunFiles(files.folder)
    if others or whole.exists():
        found = others[0] if others else whole
        what = "a run that was divided otherwise" if others else "a run that was not divided"
        kept = ", and --force of a shard does not replace it" if force else ""
        cure = "remove that run" if force else "go on with --resume and without --shard"
        raise ConfigError(
            f"{found.last_journal() or found.run} is of {what}{kept}; choose another folder with "
            f"--out, or {cure}."
        )


def refuse_early(files: RunFiles, options: JobOptions) -> None:
    """Refuse what needs no model to be refused, before one is exported or words are encoded.

    Raises:
        ConfigError: as by `begin`, but for other settings; or the encoder, or preset of it, asked
            for cannot be used.
        OutputError: the folder cannot be written.
    """
    check_encoder(options)
    check_writable(files.folder)
    with locked(files) if files.exists() else nullcontext():
        _refuse_mixture(files, force=options.force)
        _refuse_overwrite(files, options)


def check_encoder(options: JobOptions) -> None:
    """Refuse an encoder of video now rather than at the first video.

    Raises:
        ConfigError: it, or its preset, cannot be used.
    """
    if options.encoder or options.encoder_preset:
        choose_encoder(options.encoder, crf=options.crf, preset=options.encoder_preset)


def _refuse_overwrite(files: RunFiles, options: JobOptions) -> None:
    """Refuse to start anew over the record of a run, unless `resume` or `force` is on."""
    if options.resume or options.force:
        return
    shards = [] if files.shard else files.shards()
    existing = [run for run in (files, *shards) if run.exists()]
    if existing:
        raise ConfigError(
            f"{existing[0].last_journal() or existing[0].run} exists already; go on with that run "
            "with --resume, replace its results with --force, or choose another folder with --out."
        )
    derived = [files.folder / name for name in format_files(options.formats)]
    if taken := [path for path in derived if path.exists()]:
        raise ConfigError(
            f"{taken[0]} exists already; replace it with --force, or choose another folder with "
            "--out."
        )

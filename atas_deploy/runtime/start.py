"""How a run begins: anew, or where an earlier one stopped."""

from contextlib import ExitStack
from dataclasses import dataclass

from atas_deploy.core.errors import ConfigError
from atas_deploy.runtime.derived import format_files
from atas_deploy.runtime.lock import locked
from atas_deploy.runtime.options import JobOptions
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
    _refuse_mixture(files)
    refuse_overwrite(files, options)
    if options.resume:
        return _resume(record, shards)
    for run in (files, *shards):
        run.remove()
    return _fresh(record)


def _fresh(record: RunRecord) -> Start:
    tally = Tally()
    record.write(tally)
    return Start(DoneSources.named(iter(())), tally)


def _resume(record: RunRecord, shards: list[RunFiles]) -> Start:
    earlier = [run for run in (record.files, *shards) if run.exists()]
    for run in earlier:
        record.force |= bool(check_same(record.settings, run).get("force"))
    if not earlier:
        return _fresh(record)
    record.write(Tally())  # before shards are removed: a journal always has its settings beside it
    done, tally = take_over(record.files, shards=shards)
    return Start(done, tally)


def _refuse_mixture(files: RunFiles) -> None:
    """Refuse to add a shard to results that were not made in as many parts."""
    if files.shard is None:
        return
    others = [run for run in files.shards() if run.shard and run.shard[1] != files.shard[1]]
    whole = RunFiles(files.folder)
    if others or whole.exists():
        found = others[0] if others else whole
        raise ConfigError(
            f"{found.last_journal() or found.run} is of a run that was divided otherwise; choose "
            "another folder with --out, or go on with --resume and without --shard."
        )


def refuse_overwrite(files: RunFiles, options: JobOptions) -> None:
    """Refuse to start anew over the record of a run; ask before work that takes long.

    Raises:
        ConfigError: there is one, and neither `resume` nor `force` is on.
    """
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

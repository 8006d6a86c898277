"""A job of names for regions: many sources in, tables and overlays out, in flat memory.

A source that cannot be read, or whose regions cannot, is named and skipped; everything written
before a failure stays valid.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.files import check_writable
from atas_deploy.media.sources import Found, Source
from atas_deploy.runtime.lock import locked
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.record import RunRecord, words_of
from atas_deploy.runtime.region_job.region_images import name_images
from atas_deploy.runtime.region_job.region_tally import RegionTally
from atas_deploy.runtime.region_job.region_video import name_video
from atas_deploy.runtime.region_job.region_work import RegionFolder, RegionWork
from atas_deploy.runtime.region_job.regions_from import RegionsFrom
from atas_deploy.runtime.region_job.tables import Tables, remove_tables, table_paths
from atas_deploy.runtime.regions import RegionClassifier
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.stops import Stops
from atas_deploy.runtime.threads import one_thread_each
from atas_deploy.runtime.work import Progress


class RegionJob:
    """Names the regions of sources into a folder.

    Args:
        classifier: the model with its classes.
        regions_from: where the regions come from.
        out: folder of the results.
        progress: where to tell how far the job is.
        options: what to write, and of what; those of masks are not used.
    """

    def __init__(
        self,
        classifier: RegionClassifier,
        regions_from: RegionsFrom,
        out: Path,
        *,
        progress: Progress,
        options: JobOptions,
    ) -> None:
        self._classifier, self._from = classifier, regions_from
        self._options, self._progress = options, progress
        self._files = RunFiles(out)
        self._record = RunRecord(
            self._files,
            settings=_settings(classifier, regions_from, options),
            engine={"backend": classifier.backend.name, "device": classifier.backend.device},
            force=options.force,
        )
        self._noted = 0  # problems of the inputs that are counted

    def run(self, found: Found, *, inputs: Iterable[str] = ()) -> RegionTally:
        """Name the regions of sources in the order given.

        A source that cannot be used is noted and skipped. An interruption finishes the files at
        hand and goes on its way.

        Args:
            found: what to work on, listed as it is needed.
            inputs: what the user named; none of these files is ever replaced.

        Returns:
            What was done, in numbers.

        Raises:
            ConfigError: results exist already and `force` is off, or another run writes to the
                folder.
            OutputError: nothing more can be written, as when the disk is full.
            BackendError: the engine fails.
        """
        tally = RegionTally(faults=self._from.faults)
        with one_thread_each(), Stops() as stops, ExitStack() as stack:
            with stops.hold():
                stack.enter_context(locked(self._files))
                work = self._begin(tally, stops, inputs)
                stack.callback(self._close, work)
            self._name(work, found)
            tally.problem = None if tally.cut else self._from.problem()
            self._record.complete = tally.complete
        return tally

    def _begin(self, tally: RegionTally, stops: Stops, inputs: Iterable[str]) -> RegionWork:
        """Remove the record of an earlier run, or refuse to, and open the files of this one."""
        refuse_overwrite(self._files, self._from, force=self._options.force)
        self._files.remove()
        remove_tables(self._files.folder)
        self._record.write(tally)
        vocabulary = self._classifier.vocabulary
        return RegionWork(
            classifier=self._classifier,
            regions_from=self._from,
            folder=RegionFolder(
                self._files.folder,
                classes=vocabulary.classes,
                options=self._options,
                inputs=inputs,
            ),
            tables=Tables(
                self._files.folder,
                top=min(self._classifier.top, len(vocabulary.names)),
                regions_from=self._from,
            ),
            tally=tally,
            options=self._options,
            progress=self._progress,
            stops=stops,
        )

    def _close(self, work: RegionWork) -> None:
        """Complete the tables and run.json, both if it can be, however the run ended."""
        with work.stops.hold():
            try:
                work.tables.close()
            finally:
                self._record.write(work.tally)
                self._progress.end()

    def _name(self, work: RegionWork, found: Found) -> None:
        """Name runs of images together, and videos one by one."""
        left = found.count()
        turns = self._turns(work, found)
        for kind, sources in groupby(turns, key=lambda source: source.kind):
            if kind == "image":
                name_images(work, sources, total=left)
            else:
                for source in sources:
                    name_video(work, source)
        self._note_problems(work, found)

    def _turns(self, work: RegionWork, found: Found) -> Iterator[Source]:
        """Yield the sources, and count what listing finds wrong."""
        for source in found.sources:
            self._note_problems(work, found)
            yield source

    def _note_problems(self, work: RegionWork, found: Found) -> None:
        for problem in found.problems[self._noted :]:
            self._noted += 1
            work.note_failure(problem.asked, problem.message)


def refuse_early(out: Path, regions_from: RegionsFrom, *, force: bool) -> None:
    """Refuse what needs no model to be refused, before one is exported or words are encoded.

    Raises:
        ConfigError: results exist already and `force` is off, or another run writes there.
        OutputError: the folder cannot be written.
    """
    files = RunFiles(out)
    check_writable(out)
    with locked(files) if files.exists() else nullcontext():
        refuse_overwrite(files, regions_from, force=force)


def refuse_overwrite(files: RunFiles, regions_from: RegionsFrom, *, force: bool) -> None:
    """Refuse to replace the results of an earlier run, and ever the file of the regions.

    Raises:
        ConfigError: they exist and `force` is off, or the file has the name of a result.
    """
    path = regions_from.path
    if path is not None and os.path.realpath(path) in map(
        os.path.realpath, table_paths(files.folder)
    ):
        raise ConfigError(
            f"{path} would be replaced by a result; choose another folder with --out."
        )
    taken = [path for path in (files.results, files.run) if path.exists()]
    taken += [path for path in table_paths(files.folder) if path.exists()]
    if taken and not force:
        raise ConfigError(
            f"{taken[0]} exists already; replace it with --force, or choose another folder with "
            "--out."
        )


def _settings(
    classifier: RegionClassifier, regions_from: RegionsFrom, options: JobOptions
) -> dict[str, Any]:
    """What decides names and files, JSON-ready."""
    names = ("opacity", "overlay", "every", "start", "end", "max_frames")
    both = classifier.embed == "both"
    return {
        **words_of(classifier),
        "short_side": classifier.short_side,
        "regions": regions_from.settings(),
        "embed": classifier.embed,
        "crop_weight": classifier.crop_weight if both else None,
        "crop_scale": classifier.crop_scale if classifier.embed != "dense" else None,
        "top": classifier.top,
        **{name: getattr(options, name) for name in names},
    }

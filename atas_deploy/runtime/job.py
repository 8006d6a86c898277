"""A segmentation job: many sources in, a folder of results out, in flat memory.

A source that cannot be read is named and skipped; everything written before a failure stays valid.
What is done stands in the journal and nowhere else, so a run that was stopped or killed goes on.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from atas_deploy.backends.base import release_texts
from atas_deploy.media.sources import Found, Source
from atas_deploy.runtime.derived import write_formats
from atas_deploy.runtime.image_job import segment_images
from atas_deploy.runtime.journal import Journal
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.outputs import OutputFolder
from atas_deploy.runtime.record import RunRecord, settings_of
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.start import Start, begin, check_encoder
from atas_deploy.runtime.stops import Stops
from atas_deploy.runtime.tally import Tally
from atas_deploy.runtime.threads import one_thread_each
from atas_deploy.runtime.video_job import segment_video
from atas_deploy.runtime.work import Progress, Work


class SegmentJob:
    """Segments sources into a folder.

    Args:
        segmenter: the model with its classes.
        out: folder of the results.
        progress: where to tell how far the job is.
        options: what to write, and of what.

    Raises:
        ConfigError: the encoder, or preset of it, asked for cannot be used.
    """

    def __init__(
        self, segmenter: Segmenter, out: Path, *, progress: Progress, options: JobOptions
    ) -> None:
        check_encoder(options)
        self._segmenter, self._options, self._progress = segmenter, options, progress
        self._files = RunFiles(out, options.shard)
        self._record = RunRecord(
            self._files,
            settings=settings_of(segmenter, options),
            engine={"backend": segmenter.backend.name, "device": segmenter.backend.device},
            force=options.force,
        )
        self._turn = 0  # sources to do that have come up
        self._noted = 0  # problems of the inputs that stand in the journal

    def run(self, found: Found, *, inputs: Iterable[str] = ()) -> Tally:
        """Segment sources in the order given.

        A source that cannot be read or written is noted and skipped. An interruption finishes the
        files at hand and goes on its way.

        Args:
            found: what to segment, listed as it is needed.
            inputs: what the user named; none of these files is ever replaced.

        Returns:
            What stands in the journal, in numbers.

        Raises:
            ConfigError: results exist already and neither `resume` nor `force` is on, the earlier
                run had other settings, or another run writes to the folder.
            OutputError: nothing more can be written, as when the disk is full.
            BackendError: the engine fails.
        """
        release_texts(self._segmenter.backend)
        with one_thread_each(), Stops() as stops, ExitStack() as stack:
            with stops.hold():
                start = begin(self._record, self._options, stack)
                journal = Journal(self._files, start.tally)
                stack.callback(self._close, journal, stops)
            work = self._work(journal, stops, inputs)
            self._segment(work, start, found)
            with stops.hold():
                journal.close()
            if problem := self._segmenter.gpu_problem:
                self._progress.note(problem)
            self._write_formats(work.folder)
            self._record.complete = not start.tally.failed
        return start.tally

    def _close(self, journal: Journal, stops: Stops) -> None:
        """Finish the journal and run.json, both if it can be, however the run ended."""
        with stops.hold():
            try:
                journal.close()
            finally:
                self._record.write(journal.tally)
                self._progress.end()

    def _work(self, journal: Journal, stops: Stops, inputs: Iterable[str]) -> Work:
        return Work(
            segmenter=self._segmenter,
            folder=OutputFolder(
                self._files.folder,
                classes=self._segmenter.vocabulary.classes,
                options=self._options,
                inputs=inputs,
            ),
            journal=journal,
            options=self._options,
            progress=self._progress,
            stops=stops,
            force=self._record.force,
        )

    def _segment(self, work: Work, start: Start, found: Found) -> None:
        """Segment runs of images together, and videos one by one."""
        count = found.count()
        total = None if count is None else count - len(start.done)
        turns = self._turns(work, start, found)
        for kind, sources in groupby(turns, key=lambda source: source.kind):
            if kind == "image":
                left = None if total is None else max(1, total - self._turn + 1)
                segment_images(work, sources, total=left)
            else:
                for source in sources:
                    segment_video(work, source)
        self._note_problems(work, found)

    def _turns(self, work: Work, start: Start, found: Found) -> Iterator[Source]:
        """Yield the sources that are not done yet."""
        for source in found.sources:
            self._note_problems(work, found)
            if source.shown not in start.done:
                self._turn += 1
                yield source

    def _note_problems(self, work: Work, found: Found) -> None:
        """Write the lines of inputs that gave no source, as listing comes upon them."""
        for problem in found.problems[self._noted :]:
            self._noted += 1
            work.note_failure(problem.asked, problem.message)

    def _write_formats(self, folder: OutputFolder) -> None:
        names = self._segmenter.vocabulary.names
        self._record.formats = write_formats(
            self._options.formats, self._files.results, names=names, palette=folder.palette
        )

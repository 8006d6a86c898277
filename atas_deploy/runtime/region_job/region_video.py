"""A video of a job: frames in, rows and an overlay out, names stable along each track."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from atas_deploy.core.errors import ConfigError, InputError, OutputError
from atas_deploy.core.region import NamedRegions, Region
from atas_deploy.media.annotations import Picture
from atas_deploy.media.sources import Source
from atas_deploy.media.video import Frame, VideoReader, VideoWriter
from atas_deploy.runtime.encode import Image
from atas_deploy.runtime.region_job.region_work import RegionWork
from atas_deploy.runtime.region_job.regions_from import Finder
from atas_deploy.runtime.regions import TrackLinker, TrackNames
from atas_deploy.runtime.stops import STOPS


def name_video(work: RegionWork, source: Source) -> None:
    """Name the regions of a video to its end, or to where it breaks or the run is stopped.

    Raises:
        OutputError: nothing more can be written, as when the disk is full.
        BackendError: the engine fails.
        KeyboardInterrupt, SystemExit: the run was stopped; the frames before it are kept.
    """
    options = work.options
    work.tally.cut |= (options.start, options.end, options.max_frames) != (None, None, None)
    try:
        work.folder.check_room(source, force=options.force)
        work.folder.clear(source)
        first = _frames_before(source, options.start)
        with VideoReader(
            source.location, start=options.start, end=options.end, max_frames=options.max_frames
        ) as reader:
            work.progress.begin(source.name, total=reader.frame_count, unit="frame")
            stop = _Video(work, source, reader, first=first).run()
    except (ConfigError, InputError, OutputError) as exc:
        work.tally.cut = True
        work.fail(source, exc)
    else:
        if isinstance(stop, STOPS):
            raise stop
    work.progress.end()


def _frames_before(source: Source, start: float | None) -> int:
    """Count the frames before a time, since files of regions count from the first frame.

    Raises:
        InputError: the video is damaged there.
    """
    if not start or source.live:
        return 0
    try:
        reader = VideoReader(source.location, end=start)
    except InputError:  # there is none, or the video cannot be read, which comes up again
        return 0
    with reader:
        return sum(1 for _ in reader)


class _Video:
    """A video on its way through the classifier."""

    def __init__(
        self, work: RegionWork, source: Source, reader: VideoReader, *, first: int
    ) -> None:
        self._work, self._source, self._reader, self._first = work, source, reader, first
        self._pending: deque[Frame] = deque()
        self._linker = TrackLinker()
        self._broken: BaseException | None = None
        self._frames = 0

    def run(self) -> BaseException | None:
        """Write all that the video becomes; return what stopped it before its end."""
        work = self._work
        targets = work.folder.make_room(self._source)
        with ExitStack() as files:
            with work.stops.hold():
                self._overlay = self._open(targets.get("overlay"), files)
            try:
                self._name()
            except STOPS as exc:
                self._broken = exc
            if self._broken is not None and not self._frames:
                raise self._broken
            with work.stops.hold():
                files.close()
                self._count()
        return self._broken

    def _open(self, path: Path | None, files: ExitStack) -> VideoWriter | None:
        """Open the overlay, if one is asked for."""
        if path is None:
            return None
        options = self._work.options
        writer = VideoWriter(
            path,
            source=self._reader,
            encoder=options.encoder,
            crf=options.crf,
            preset=options.encoder_preset,
        )
        self._work.note(writer.encoder_note)
        return files.enter_context(writer)

    def _name(self) -> None:
        work = self._work
        results = work.classifier.stream(
            self._read(), every=work.options.every, tracks=TrackNames()
        )
        with closing(results):  # its threads end before the reader
            for found in results:
                with work.stops.hold():
                    self._write(self._pending.popleft(), found)
                work.progress.advance()

    def _read(self) -> Iterator[tuple[Image, Sequence[Region] | Finder]]:
        """Yield frames with their regions; damage ends them: those so far make a valid video."""
        try:
            for frame in self._reader:
                regions = self._work.regions_from.regions(self._picture(frame), self._linker)
                self._pending.append(frame)
                yield frame.image, regions
        except InputError as exc:
            self._broken = exc

    def _picture(self, frame: Frame) -> Picture:
        return Picture(str(self._source.location), self._reader.size, self._first + frame.index)

    def _write(self, frame: Frame, found: NamedRegions) -> None:
        work, picture = self._work, self._picture(frame)
        name = f"{self._source.name}/{picture.frame:06d}"
        work.tables.write(self._source.shown, picture, found, name=name, time=frame.time)
        if self._overlay is not None:
            self._overlay.write(work.draw(frame.image, found), frame)
        work.count({"kind": "frame"}, found)
        self._frames += 1

    def _count(self) -> None:
        """Count the video as done or broken; a recording ends when the user says so."""
        broken = self._broken
        stopped = isinstance(broken, STOPS)
        name = self._source.shown
        if broken is None or (stopped and self._source.live):
            self._work.count({"kind": "video"})
        else:
            reason = f"{name} was interrupted" if stopped else str(broken)
            self._work.tally.cut = True
            kept = f"{reason} (the {self._frames} frames before it are kept)"
            self._work.note_failure(name, kept)

"""A segmentation job: many sources in, a folder of results out, in flat memory.

A source that cannot be read is named and skipped; everything written before a failure stays valid.
"""

import errno
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.core.results import Segmentation
from atas_deploy.media.images import read_image
from atas_deploy.media.sources import Problem, Source
from atas_deploy.media.video import Frame, VideoReader, VideoWriter
from atas_deploy.runtime.outputs import RESULTS, RUN, OutputFolder, ResultLog, write_run
from atas_deploy.runtime.segment import Segmenter

Image = npt.NDArray[np.uint8]
_STOPS = (KeyboardInterrupt, SystemExit)
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class Progress(Protocol):
    """Where a job tells how far it is."""

    def begin(self, name: str, *, total: int | None, unit: str) -> None:
        """Start a phase of `total` units; None if unknown."""
        ...

    def advance(self) -> None:
        """One unit is done."""
        ...

    def end(self) -> None:
        """The phase is over."""
        ...


@dataclass
class JobReport:
    """What became of each input: JSON-ready objects with source, kind, frames and maybe error."""

    inputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The inputs that could not be read to their end."""
        return [entry for entry in self.inputs if "error" in entry]


class SegmentJob:
    """Segments sources into a folder.

    Args:
        segmenter: the model with its classes.
        out: folder of the results.
        opacity: of overlays, in [0, 1].
        max_frames: frames read of each video; None = all.
        force: replace existing results.
        progress: where to tell how far the job is.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        out: Path,
        *,
        progress: Progress,
        opacity: float = 0.55,
        max_frames: int | None = None,
        force: bool = False,
    ) -> None:
        self._segmenter, self._progress = segmenter, progress
        self._max_frames, self._force = max_frames, force
        self._folder = OutputFolder(out, class_names=segmenter.vocabulary.names, opacity=opacity)
        self._report = JobReport()
        self._frames = 0  # written of the video at hand

    def run(self, sources: Sequence[Source], *, problems: Sequence[Problem] = ()) -> JobReport:
        """Segment all sources, images first.

        A source that cannot be read or written is noted and skipped. An interruption finishes the
        files at hand and goes on its way.

        Args:
            sources: what to segment.
            problems: inputs that gave no source; they are noted in the report.

        Raises:
            ConfigError: a result exists already and `force` is off, or would replace an input.
            OutputError: nothing more can be written, as when the disk is full.
            BackendError: the engine fails.
        """
        self._folder.refuse_overwrite(sources, force=self._force)
        self._report.inputs += [
            {"source": problem.asked, "error": problem.message} for problem in problems
        ]
        try:
            with ResultLog(self._folder.path / RESULTS) as log:
                self._images([source for source in sources if source.kind == "image"], log)
                for source in sources:
                    if source.kind == "video":
                        self._video(source, log)
        finally:
            self._progress.end()
            self._note_unfinished(sources)
            write_run(
                self._folder.path / RUN, segmenter=self._segmenter, inputs=self._report.inputs
            )
        return self._report

    def _images(self, sources: Sequence[Source], log: ResultLog) -> None:
        if not sources:
            return
        pending: deque[tuple[Source, Image]] = deque()
        self._progress.begin("images", total=len(sources), unit="image")
        for result in self._segmenter.stream(self._read(sources, pending)):
            source, image = pending.popleft()
            try:
                log.write(self._folder.write_image(source, image, result))
                self._done(source)
            except OutputError as exc:
                self._skip(source, exc)
            self._progress.advance()
        self._progress.end()

    def _read(
        self, sources: Sequence[Source], pending: deque[tuple[Source, Image]]
    ) -> Iterator[Image]:
        """Yield the images that can be read; note the others."""
        for source in sources:
            try:
                image = read_image(source.path)
            except InputError as exc:
                self._skip(source, exc)
                self._progress.advance()
                continue
            pending.append((source, image))
            yield image

    def _video(self, source: Source, log: ResultLog) -> None:
        self._frames = 0
        try:
            with VideoReader(source.path, max_frames=self._max_frames) as reader:
                self._progress.begin(source.name, total=reader.frame_count, unit="frame")
                stop = self._video_frames(source, reader, log)
        except (InputError, OutputError) as exc:
            self._skip(source, exc)
        else:
            kept = f"(the {self._frames} frames before it are kept)"
            reason = f"{source.path} was interrupted" if isinstance(stop, _STOPS) else str(stop)
            self._done(source, frames=self._frames, error=f"{reason} {kept}" if stop else None)
            if isinstance(stop, _STOPS):
                raise stop
        self._progress.end()

    def _video_frames(
        self, source: Source, reader: VideoReader, log: ResultLog
    ) -> BaseException | None:
        """Segment a video to its end, or to where it breaks or is interrupted: the reason."""
        pending: deque[Frame] = deque()
        broken: list[BaseException] = []

        def images() -> Iterator[Image]:
            try:
                for frame in reader:
                    pending.append(frame)
                    yield frame.image
            except InputError as exc:  # stop quietly: the frames so far make a valid video
                broken.append(exc)

        target = self._folder.make_room(source)["overlay"]
        with VideoWriter(target, source=reader) as writer:
            try:
                for result in self._segmenter.stream(images()):
                    frame = pending.popleft()
                    writer.write(self._folder.overlay(frame.image, result), frame)
                    log.write(_frame_row(source, frame, result))
                    self._frames += 1
                    self._progress.advance()
            except _STOPS as exc:
                if not self._frames:
                    raise
                broken.append(exc)
        return broken[0] if broken else None

    def _skip(self, source: Source, error: Exception) -> None:
        """Note what went wrong with a source; go on unless no source can be written any more.

        Raises:
            OutputError: the same error, if the disk is full or the folder may not be written.
        """
        self._done(source, frames=0, error=str(error))
        if isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _HOPELESS:
            raise error

    def _done(self, source: Source, *, frames: int = 1, error: str | None = None) -> None:
        entry: dict[str, Any] = {"source": str(source.path), "kind": source.kind}
        if source.kind == "video":
            entry["frames"] = frames
        if error is None or (frames and source.kind == "video"):
            targets = self._folder.targets(source)
            folder = self._folder.path
            entry |= {kind: path.relative_to(folder).as_posix() for kind, path in targets.items()}
        self._report.inputs.append(entry if error is None else {**entry, "error": error})

    def _note_unfinished(self, sources: Sequence[Source]) -> None:
        seen = {entry["source"] for entry in self._report.inputs}
        for source in sources:
            if str(source.path) not in seen:
                self._done(
                    source, frames=0, error=f"{source.path} was not done: the run was stopped"
                )


def _frame_row(source: Source, frame: Frame, result: Segmentation) -> dict[str, Any]:
    """The line of results of a video frame."""
    return {
        "source": str(source.path),
        "frame": frame.index,
        "time": round(frame.time, 6),
        "classes": result.summary(),
    }

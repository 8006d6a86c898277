"""A segmentation job: many sources in, a folder of results out, in flat memory.

A source that cannot be read is named and skipped; everything written before a failure stays valid.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import read_image
from atas_deploy.media.sources import Source
from atas_deploy.media.video import Frame, VideoReader, VideoWriter
from atas_deploy.runtime.outputs import RESULTS, RUN, OutputFolder, ResultLog, write_run
from atas_deploy.runtime.segment import Segmenter


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

    def run(self, sources: Sequence[Source]) -> JobReport:
        """Segment all sources, images first.

        Raises:
            ConfigError: a result exists already and `force` is off.
            OutputError: a result cannot be written.
            BackendError: the engine fails.
        """
        if not self._force:
            self._folder.refuse_overwrite(sources)
        try:
            with ResultLog(self._folder.path / RESULTS) as log:
                self._images([source for source in sources if source.kind == "image"], log)
                for source in sources:
                    if source.kind == "video":
                        self._video(source, log)
        finally:
            self._note_unfinished(sources)
            write_run(
                self._folder.path / RUN, segmenter=self._segmenter, inputs=self._report.inputs
            )
        return self._report

    def _images(self, sources: Sequence[Source], log: ResultLog) -> None:
        if not sources:
            return
        pending: deque[tuple[Source, npt.NDArray[np.uint8]]] = deque()
        self._progress.begin("images", total=len(sources), unit="image")
        for result in self._segmenter.stream(self._read(sources, pending)):
            source, image = pending.popleft()
            log.write(self._folder.write_image(source, image, result))
            self._done(source)
            self._progress.advance()
        self._progress.end()

    def _read(
        self, sources: Sequence[Source], pending: deque[tuple[Source, npt.NDArray[np.uint8]]]
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the images that can be read; note the others."""
        for source in sources:
            try:
                image = read_image(source.path)
            except InputError as exc:
                self._done(source, error=str(exc))
                self._progress.advance()
                continue
            pending.append((source, image))
            yield image

    def _video(self, source: Source, log: ResultLog) -> None:
        try:
            with VideoReader(source.path, max_frames=self._max_frames) as reader:
                self._progress.begin(source.name, total=reader.frame_count, unit="frame")
                frames, error = self._video_frames(source, reader, log)
        except InputError as exc:
            frames, error = 0, str(exc)
        self._progress.end()
        self._done(source, frames=frames, error=error)

    def _video_frames(
        self, source: Source, reader: VideoReader, log: ResultLog
    ) -> tuple[int, str | None]:
        """Segment a video to its end, or to where it breaks: frames written, and the error."""
        pending: deque[Frame] = deque()
        errors: list[str] = []

        def images() -> Iterator[npt.NDArray[np.uint8]]:
            try:
                for frame in reader:
                    pending.append(frame)
                    yield frame.image
            except InputError as exc:  # stop quietly: the frames so far make a valid video
                errors.append(str(exc))

        count = 0
        target = self._folder.make_room(source)["overlay"]
        with VideoWriter(target, source=reader) as writer:
            for result in self._segmenter.stream(images()):
                frame = pending.popleft()
                writer.write(self._folder.overlay(frame.image, result), frame)
                log.write(
                    {
                        "source": str(source.path),
                        "frame": frame.index,
                        "time": round(frame.time, 6),
                        "classes": result.summary(),
                    }
                )
                count += 1
                self._progress.advance()
        return count, f"{errors[0]} (the {count} frames before it are kept)" if errors else None

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
                self._done(source, frames=0, error="not finished: the run was stopped")

"""A video of a job: frames in, one line each, an overlay and masks out."""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.gpu import gpu_index
from atas_deploy.core.errors import ConfigError, InputError, OutputError
from atas_deploy.core.results import Segmentation
from atas_deploy.media.sources import Source
from atas_deploy.media.video import Frame, MaskLines, MaskSequence, VideoReader, VideoWriter
from atas_deploy.runtime.device.tools import Tint
from atas_deploy.runtime.stops import STOPS
from atas_deploy.runtime.work import Work

Image = npt.NDArray[np.uint8]


def segment_video(work: Work, source: Source) -> None:
    """Segment a video to its end, or to where it breaks or the run is stopped.

    Raises:
        OutputError: nothing more can be written, as when the disk is full.
        BackendError: the engine fails, or the GPU that should decode does not.
        KeyboardInterrupt, SystemExit: the run was stopped; the frames before it are kept.
    """
    options = work.options
    try:
        work.folder.check_room(source, force=work.force)
        with VideoReader(
            source.location,
            start=options.start,
            end=options.end,
            max_frames=options.max_frames,
            gpu=_decoding_gpu(work),
            planes=work.segmenter.on_gpu,
        ) as reader:
            work.progress.begin(source.name, total=reader.frame_count, unit="frame")
            if options.formats and options.masks != "png":
                work.note("Videos are in no --format unless --save-masks png keeps their masks.")
            stop = _Video(work, source, reader).run()
    except (ConfigError, InputError, OutputError) as exc:
        work.fail(source, exc)
    else:
        if isinstance(stop, STOPS):
            raise stop
    work.progress.end()


def _decoding_gpu(work: Work) -> int | None:
    """The number of the GPU that decodes: the engine's, or the first one; None = none does."""
    if work.options.decoder == "cpu":
        return None
    device = work.segmenter.backend.device
    return 0 if device == "cpu" else gpu_index(device)


class _Video:
    """A video on its way through the segmenter."""

    def __init__(self, work: Work, source: Source, reader: VideoReader) -> None:
        self._work, self._source, self._reader = work, source, reader
        self._name = source.shown
        self._pending: deque[Frame] = deque()
        self._broken: BaseException | None = None
        self._last: Segmentation | None = None
        self._classes: list[dict[str, Any]] = []  # of the last masks
        self._frames = 0

    def run(self) -> BaseException | None:
        """Write all that the video becomes; return what stopped it before its end."""
        work = self._work
        targets = work.folder.make_room(self._source)
        with ExitStack() as whole, ExitStack() as finishing:
            with work.stops.hold():
                whole.enter_context(work.journal.writing(self._name, targets))
                files = whole.enter_context(ExitStack())
                self._open(targets, files)
            try:
                self._segment()
                finishing.enter_context(work.stops.hold())  # here, lest a signal comes between
            except STOPS as exc:
                if not self._frames:
                    raise
                self._broken = exc  # it is obeyed already, and later ones are passed over
            with whole.pop_all():  # a signal comes after the note is gone
                files.close()
                work.journal.write(self._closing_row(targets))
        return self._broken

    def _open(self, targets: dict[str, Path], stack: ExitStack) -> None:
        """Open the overlay and the masks, as far as they are asked for."""
        work, options = self._work, self._work.options
        self._overlay: VideoWriter | None = None
        self._masks: MaskSequence | MaskLines | None = None
        if "overlay" in targets:
            writer = VideoWriter(
                targets["overlay"],
                source=self._reader,
                size=work.folder.overlay_size(self._reader.size),
                encoder=options.encoder,
                crf=options.crf,
                preset=options.encoder_preset,
            )
            self._overlay = stack.enter_context(writer)
            work.note(writer.encoder_note)
        if options.masks == "png":
            self._masks = MaskSequence(targets["masks"], work.folder.palette)
        elif options.masks == "rle":
            self._masks = MaskLines(targets["masks"])
        if self._masks is not None:
            stack.enter_context(self._masks)

    def _segment(self) -> None:
        work, options = self._work, self._work.options
        tint = Tint(work.folder.palette, options.opacity) if self._overlay else None
        results = work.segmenter.tinted_stream(
            self._frames_read(),
            tint=tint,
            every=options.every,
            smooth=options.smooth,
            adaptive=options.adaptive,
        )
        with closing(results):  # its threads end before the reader
            for result, tinted in results:
                with work.stops.hold():
                    self._write(self._pending.popleft(), result, tinted)
                work.progress.advance()

    def _frames_read(self) -> Iterator[Frame]:
        """Yield the frames; damage ends them quietly: those so far make a valid video."""
        try:
            for frame in self._reader:
                self._pending.append(frame)
                yield frame
        except InputError as exc:
            self._broken = exc

    def _write(self, frame: Frame, result: Segmentation, tinted: Image | None) -> None:
        held = result is self._last
        row = {"source": self._name, "kind": "frame", "frame": frame.index}
        row["time"] = round(frame.time, 6)
        if held:
            row["held"] = True
        else:
            row |= {"carried": True} if result.carried else {}
            self._last, self._classes = result, result.summary()
        if self._overlay is not None:
            self._overlay.write(self._draw(frame, result, tinted), frame)
        if self._masks is not None and not held:
            row |= self._write_mask(self._masks, frame, result)
        self._work.journal.write(row | {"classes": self._classes})
        self._frames += 1

    def _draw(self, frame: Frame, result: Segmentation, tinted: Image | None) -> Image:
        """The overlay of a frame, which needs the frame's own image only where it shows."""
        beside = self._work.options.view == "side"
        image = frame.image if tinted is None or beside else tinted
        return self._work.folder.overlay(image, result, tinted=tinted)

    def _write_mask(
        self, masks: MaskSequence | MaskLines, frame: Frame, result: Segmentation
    ) -> dict[str, Any]:
        """Write the masks of a frame; return what its line says about them."""
        masks.write(result.labels, frame)
        if isinstance(masks, MaskLines):
            return {}
        height, width = result.labels.shape
        labels = masks.path / f"{frame.index:06d}.png"
        return {"height": height, "width": width, **self._work.names({"labels": labels})}

    def _closing_row(self, targets: dict[str, Path]) -> dict[str, Any]:
        broken = self._broken
        if self._source.live and isinstance(broken, STOPS):
            broken = None  # a recording ends when the user says so
        row = {"source": self._name, "kind": "video", "frames": self._frames}
        row |= {"live": True} if self._source.live else {}
        row |= {"complete": broken is None, **self._work.names(targets)}
        if broken is not None:
            reason = f"{self._name} was interrupted" if isinstance(broken, STOPS) else str(broken)
            row["error"] = f"{reason} (the {self._frames} frames before it are kept)"
        return row

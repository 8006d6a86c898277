"""Writing video that plays anywhere: H.264 in MP4, the source's time stamps and sound kept."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.codec import Codec
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    VideoReformatter,
)
from av.video.stream import VideoStream

from atas_deploy.core.errors import BackendUnavailableError, InputError, OutputError
from atas_deploy.core.files import output_error, part_path
from atas_deploy.media.video.audio import AudioCopy
from atas_deploy.media.video.reader import EXACT_CHROMA, Frame, VideoReader

DEFAULT_CRF = 20

H264_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf")
_BITS_PER_PIXEL = 0.15  # for encoders that know no constant quality
_AVCOL_SPC_BT709 = 1  # FFmpeg's number for the matrix in files, not swscale's


class VideoWriter:
    """An MP4 file that appears, whole, when the block that writes it succeeds.

    H.264, yuv420p in limited-range BT.709, header first, so that browsers start playing at once.
    Odd sizes are padded by repeating the last row or column; nothing is rescaled. Until it is
    complete the file lies beside its place under a name that ends in ``.part``; an exception
    removes it. To keep the frames before an error, catch the error inside the block.

    Args:
        path: The MP4 file to create or replace; its folder must exist.
        source: The video whose time stamps and sound the file takes over.
        size: (height, width) of the images, in pixels; None takes the source's.
        rate: Average frames a second; None takes the source's.
        crf: Quality of x264 from 0, lossless, to 51; at 20 losses are hard to see.

    Raises:
        BackendUnavailableError: If this build of PyAV has no H.264 encoder.
        InputError: If the source's sound cannot be carried, being damaged.
        OutputError: If the file cannot be created.
    """

    def __init__(
        self,
        path: Path,
        *,
        source: VideoReader | None = None,
        size: tuple[int, int] | None = None,
        rate: Fraction | None = None,
        crf: int = DEFAULT_CRF,
    ) -> None:
        self.path = path
        self._source = source
        self._size, rate = _size_and_rate(source, size=size, rate=rate)
        self._time_base = source.time_base if source else 1 / rate
        self._step = max(1, round(1 / (rate * self._time_base)))
        self._end: int | None = None  # of the last frame, in ticks
        self._last_pts: int | None = None
        self._reformatter = VideoReformatter()
        self._audio: AudioCopy | None = None
        self._part = part_path(path)
        with self._translated():
            self._container = _create(self._part)
        try:
            self._stream = self._add_video(rate=rate, crf=crf)
            with self._translated():
                if source is not None:
                    self._audio = AudioCopy(source.path, self._container)
                self._container.start_encoding()  # what is wrong comes up before the work
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the file its name, or remove it after an exception."""
        if error is None:
            self.close()
        else:
            self.abort()

    def write(self, image: npt.NDArray[np.uint8], frame: Frame | None = None) -> None:
        """Append a picture.

        Args:
            image: (H, W, 3) uint8 RGB, of the writer's size.
            frame: The frame of the source whose place in time it takes; None puts it right after
                the one before.

        Raises:
            InputError: If the image has another size.
            OutputError: If the file cannot be written.
        """
        if image.shape != (*self._size, 3):
            raise InputError(
                f"Got an image of shape {image.shape}, expected {(*self._size, 3)}: "
                "one video has one size"
            )
        encodable = self._to_yuv(image)
        encodable.pts = self._take_pts(frame)
        encodable.time_base = self._time_base
        with self._translated():
            if self._audio is not None:
                self._audio.advance(float(encodable.pts * self._time_base))
            self._container.mux(self._stream.encode(encodable))

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: If no frame was written or the file cannot be finished.
        """
        if self._end is None:
            self.abort()
            raise OutputError(f"Cannot write {self.path}: a video needs at least one frame")
        try:
            with self._translated():
                self._container.mux(self._stream.encode(None))
                if self._audio is not None:
                    self._audio.advance(self._audio_end())
                    self._audio.finish()
                self._container.close()
                self._part.replace(self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: close everything and leave no file behind."""
        if self._audio is not None:
            self._audio.close()
        with suppress(av.FFmpegError, OSError):
            self._container.close()
        with suppress(OSError):
            self._part.unlink()

    def _add_video(self, *, rate: Fraction, crf: int) -> VideoStream:
        encoder = _h264_encoder()
        options = {"crf": str(crf), "preset": "veryfast"} if encoder == "libx264" else {}
        with self._translated():
            stream = cast(
                VideoStream, self._container.add_stream(encoder, rate=rate, options=options)
            )
        height, width = self._size
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        if not options:
            stream.bit_rate = round(height * width * rate * _BITS_PER_PIXEL)
        context = stream.codec_context
        context.time_base = self._time_base
        context.sample_aspect_ratio = self._source.pixel_aspect if self._source else Fraction(1)
        context.colorspace = _AVCOL_SPC_BT709
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        return stream

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what FFmpeg and the system raise into one sentence about source or target."""
        try:
            yield
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            if self._source is None:
                raise output_error(self.path, error) from error
            raise InputError(
                f"{self._source.path} has damaged sound or time stamps that MP4 cannot carry "
                f"({error.strerror}): copy it again or remove its sound"
            ) from error
        except OutputError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise output_error(self.path, error) from error

    def _to_yuv(self, image: npt.NDArray[np.uint8]) -> VideoFrame:
        height, width = self._size
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(even, np.uint8), format="rgb24")
        return self._reformatter.reformat(
            rgb,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT_CHROMA,
            threads=1,
        )

    def _take_pts(self, frame: Frame | None) -> int:
        """Choose a time stamp; a source that goes back in time is nudged forward by one tick."""
        pts = (self._end or 0) if frame is None else frame.pts
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        self._end = pts + (self._step if frame is None else frame.duration)
        return pts

    def _audio_end(self) -> float:
        """Tell where the sound stops, in seconds: with the picture, if that was cut."""
        if self._source is None or self._source.finished or self._end is None:
            return float("inf")
        return float(self._end * self._time_base)


def _size_and_rate(
    source: VideoReader | None, *, size: tuple[int, int] | None, rate: Fraction | None
) -> tuple[tuple[int, int], Fraction]:
    size = source.size if size is None and source is not None else size
    rate = source.rate if rate is None and source is not None else rate
    if size is None or rate is None or rate <= 0:
        raise InputError(f"Got size {size} and rate {rate}: give both, or the source of the video")
    return size, rate


def _h264_encoder() -> str:
    for name in H264_ENCODERS:
        with suppress(av.codec.codec.UnknownCodecError):
            return Codec(name, "w").name
    raise BackendUnavailableError(
        "this build of PyAV has no H.264 encoder: reinstall it from its wheels with "
        "pip install --force-reinstall av"
    )


def _create(part: Path) -> OutputContainer:
    part.touch()  # FFmpeg would report a missing folder only at the first packet
    return av.open(f"file:{part}", "w", format="mp4", options={"movflags": "+faststart"})

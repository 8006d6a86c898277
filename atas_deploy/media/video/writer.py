"""Writing video that plays anywhere: H.264 in MP4, the source's time stamps and sound kept."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc
from av.video.stream import VideoStream

from atas_deploy.core.errors import ConfigError, InputError, OutputError
from atas_deploy.core.files import output_error, part_path
from atas_deploy.media.video.audio import AudioCopy
from atas_deploy.media.video.colour import ToYuv
from atas_deploy.media.video.encoders import Encoder, choose_encoder
from atas_deploy.media.video.opening import reason
from atas_deploy.media.video.reader import Frame, VideoReader

DEFAULT_CRF = 20

_BITS_PER_PIXEL = 0.15  # for encoders that know no constant quality
_X265_DELAY = 2  # frames; a video of no more gets random decoding times from x265
_AVCOL_SPC_BT709 = 1  # FFmpeg's number for the matrix in files, not swscale's


class VideoWriter:
    """An MP4 file that appears, whole, when the block that writes it succeeds.

    H.264 unless asked otherwise, 4:2:0 in limited-range BT.709, header first, so that browsers
    start playing at once. Time stamps are those of the source, counted from its ``origin``. Odd
    sizes are padded by repeating the last row or column; nothing is rescaled. Until it is
    complete the file lies beside its place under a name that ends in ``.part``; an exception
    removes it. To keep the frames before an error, catch the error inside the block.

    Args:
        path: The MP4 file to create or replace; its folder must exist.
        source: The video whose time stamps and sound the file takes over.
        size: (height, width) of the images, in pixels; None takes the source's.
        rate: Average frames a second; None takes the source's.
        encoder: "h264", "hevc", "av1", "vp9", or FFmpeg's name of an encoder as "h264_nvenc"; None
            takes the best for H.264 that this build of PyAV has.
        crf: Quality on x264's scale from 0, lossless, to 51; at 20 losses are hard to see.
        preset: The encoder's own name or number for how much time it takes; None chooses one that
            is fast and not wasteful.

    Attributes:
        path: The MP4 file.
        encoder_note: One sentence for the user if the best encoder is missing, else None.

    Raises:
        BackendUnavailableError: If this build of PyAV has no H.264 encoder.
        ConfigError: If the encoder, crf or preset cannot be used.
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
        encoder: str | None = None,
        crf: int = DEFAULT_CRF,
        preset: str | None = None,
    ) -> None:
        chosen = choose_encoder(encoder, crf=crf, preset=preset)
        self.encoder_note = chosen.note
        self.path = path
        self._source = source
        self._size, rate = _size_and_rate(source, size=size, rate=rate)
        self._time_base = source.time_base if source else 1 / rate
        self._step = max(1, round(1 / (rate * self._time_base)))
        self._end: int | None = None  # of the last frame, in ticks
        self._last_pts: int | None = None
        self._count = 0
        self._origin = source.origin if source else 0
        self._to_yuv = ToYuv(self._size, pixel_format=chosen.pixel_format)
        self._audio: AudioCopy | None = None
        self._part = part_path(path)
        with self._translated():
            self._container = _create(self._part)
        try:
            self._stream = self._add_video(chosen, rate=rate)
            with self._translated():
                if source is not None and not source.live:
                    self._audio = self._copy_audio(source)
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
                self._container.mux(self._last_packets())
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

    def _add_video(self, encoder: Encoder, *, rate: Fraction) -> VideoStream:
        with self._translated():
            stream = cast(VideoStream, self._container.add_stream(encoder.name, rate=rate))
        height, width = self._size
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = encoder.pixel_format
        context = stream.codec_context
        context.options = dict(encoder.options)
        if not encoder.constant_quality:
            context.bit_rate = round(height * width * rate * _BITS_PER_PIXEL)
        if context.codec.canonical_name == "hevc":
            context.codec_tag = "hvc1"  # Apple's players know no other
        context.time_base = self._time_base
        context.sample_aspect_ratio = self._source.pixel_aspect if self._source else Fraction(1)
        context.colorspace = _AVCOL_SPC_BT709
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            settings = ", ".join(f"{key} {value}" for key, value in encoder.options.items())
            raise ConfigError(
                f"The encoder {encoder.name} cannot make a video of {width} x {height} pixels with "
                f"{settings or 'its defaults'} here ({reason(error)}): choose another one"
            ) from error
        return stream

    def _copy_audio(self, source: VideoReader) -> AudioCopy:
        origin = source.origin * source.time_base
        return AudioCopy(Path(source.location), self._container, origin=origin)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what FFmpeg and the system raise into one sentence about source or target."""
        try:
            yield
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            if self._source is None:
                raise output_error(self.path, error) from error
            raise InputError(
                f"{self._source.name} has damaged sound or time stamps that MP4 cannot carry "
                f"({error.strerror}): copy it again or remove its sound"
            ) from error
        except OutputError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise output_error(self.path, error) from error

    def _last_packets(self) -> "list[Packet[VideoStream]]":
        packets = self._stream.encode(None)
        if self._count <= _X265_DELAY:  # nothing is reordered, but x265 leaves dts to chance
            for packet in packets:
                packet.dts = packet.pts
        return packets

    def _take_pts(self, frame: Frame | None) -> int:
        """Choose a time stamp; a source that goes back in time is nudged forward by one tick."""
        pts = (self._end or 0) if frame is None else frame.pts - self._origin
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        self._count += 1
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


def _create(part: Path) -> OutputContainer:
    part.touch()  # FFmpeg would report a missing folder only at the first packet
    return av.open(f"file:{part}", "w", format="mp4", options={"movflags": "+faststart"})

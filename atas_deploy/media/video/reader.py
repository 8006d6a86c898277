"""Reading video: every frame upright and in RGB, with the time stamp it has in the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.media.live import is_live, redact
from atas_deploy.media.video.colour import ToRgb
from atas_deploy.media.video.decoding import Decoder
from atas_deploy.media.video.live import ends_by_silence, open_live
from atas_deploy.media.video.opening import (
    frame_rate,
    open_file,
    seek,
    time_span,
    video_stream,
)
from atas_deploy.media.video.planes import SITED_LEFT, Planes, planes_of
from atas_deploy.media.video.span import Clock, Span

_RUN_UP = 1.0  # seconds; where frames are reordered, a key frame's packet comes before its time
_LATE = 60.0  # seconds; recordings of broadcasts begin at the time of day

_Stamped = tuple[int, VideoFrame]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        index: Its number, from 0 for the first one that is read.
        time: Its time stamp in seconds, also where reading starts in the middle of a file.
        pts: Its time stamp in ticks of ``time_base``.
        duration: How long it stays, in ticks.
        time_base: One tick in seconds.
        convert: Gives the image.
        planes: The frame as it was decoded, upright, or None; only if that was asked for.
    """

    index: int
    time: float
    pts: int
    duration: int
    time_base: Fraction
    convert: Callable[[], Image]
    planes: Planes | None = None

    @cached_property
    def image(self) -> Image:
        """(H, W, 3) uint8 RGB."""
        return self.convert()


class VideoReader:
    """The frames of a video file or live stream, decoded one at a time while you iterate; once.

    The first frame fixes the size; later ones of another size are scaled to it, as players do.
    Transparent parts are laid over white. The time of a live stream begins with its first frame.

    Damage is an error at the end even where decoding goes on behind it: frames that the file lists
    and that do not come out are counted (H.264 and HEVC in MP4 and Matroska). Two losses leave no
    trace: what decoders conceal, and blocks of a Matroska file that can no longer be told apart,
    since that format lists none; there, only an end that comes more than a second early is noticed.

    Attributes:
        location: The file, or the address of the stream.
        name: How messages name it: without user name and password.
        live: Whether it is a stream or a camera, which can be read only once and has no sound here.
        size: (height, width) of every frame, in pixels, after rotation.
        pixel_aspect: Width of a pixel over its height; 1 but for old camcorders and discs.
        rate: Average frames a second; only a guide where the rate varies.
        time_base: One tick of the time stamps, in seconds.
        origin: Time stamp, in ticks, that becomes 0 in a copy: that of the first frame if reading
            starts in the middle or the file's time begins over a minute late, otherwise 0.
        duration: Length of the whole video in seconds, None if the file does not say.
        frame_count: Estimated number of frames that iteration yields, None if unknown.
        finished: True once iteration has reached the end of the file, without an error.
    """

    def __init__(
        self,
        location: Path | str,
        *,
        start: float | None = None,
        end: float | None = None,
        max_frames: int | None = None,
        gpu: int | None = None,
        planes: bool = False,
    ) -> None:
        """Open a video and decode its first frame.

        Args:
            location: The file; or as text a stream ("rtsp://host/path", http, rtmp, udp, tcp,
                srt) or a camera ("camera:0", "/dev/video0").
            start: Leave out the frames before this time in seconds, on the file's own time line.
            end: Leave out the frames from this time on.
            max_frames: Stop after so many frames; None reads all.
            gpu: Number of the NVIDIA GPU that decodes a file; None decodes on the CPU.
            planes: Give frames as they were decoded, too, where they are H.264 or HEVC, upright,
                of the first one's size and in 4:2:0 of 8 bits; those are converted to an image
                when it is asked for.

        Raises:
            BackendUnavailableError: If that GPU cannot decode.
            ConfigError: If start or end is negative, not finite, or in the wrong order, or
                max_frames is below 1.
            InputError: If the file is missing, empty, unreadable, or holds no video frame between
                start and end; if a stream does not answer.
        """
        self._span = Span(start=start, end=end)
        if max_frames is not None and max_frames < 1:
            raise ConfigError(f"Got max_frames {max_frames}, expected 1 or more")
        self._max_frames, self._gpu, self._gives_planes = max_frames, gpu, planes
        self._converting = Lock()
        self.location = location
        self.name = redact(str(location))
        self.live = isinstance(location, str) and is_live(location)
        self.finished = False
        self._open()
        try:
            self._frames = self._wanted(self._from_start())
            first = self._first_frame()
        except BaseException:
            self.close()
            raise
        self._frames = chain([first], self._frames)
        self._describe(*first)

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; no frame can be read afterwards."""
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order of time.

        Raises:
            InputError: Where the file is damaged or cut off, after the last good frame.
        """
        for index, (pts, decoded) in enumerate(islice(self._frames, self._max_frames)):
            planes = planes_of(decoded, self.size) if self._gives_planes else None
            later = partial(self._convert, decoded)
            yield Frame(
                index=index,
                time=float(pts * self.time_base),
                pts=pts,
                duration=decoded.duration or self._step,
                time_base=self.time_base,
                convert=later if planes else _giving(later()),
                planes=planes,
            )

    def _convert(self, decoded: VideoFrame) -> Image:
        """Convert a frame to RGB, in whichever thread."""
        with self._converting:
            return self._to_rgb(decoded)

    def _open(self) -> None:
        self._container = (
            open_live(str(self.location))
            if self.live
            else open_file(Path(self.location), gpu=self._gpu)
        )
        try:
            self._stream = video_stream(self._container, self.name)
        except BaseException:
            self.close()
            raise
        self.rate = frame_rate(self._stream)
        self.time_base = self._stream.time_base or 1 / self.rate
        self._step = max(1, round(1 / (self.rate * self.time_base)))
        begin, self.duration = time_span(self._container, self._stream)
        self._begin = 0.0 if self.live else begin

    def _describe(self, pts: int, first: VideoFrame) -> None:
        """Set what the first frame tells."""
        turns = round(first.rotation / 90) % 4
        self._to_rgb = ToRgb((first.height, first.width), turns=turns)
        self._gives_planes &= not turns and self._stream.codec_context.name in SITED_LEFT
        self.size = (first.width, first.height) if turns % 2 else (first.height, first.width)
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / aspect if turns % 2 else aspect
        late = self._span.start is not None or pts * self.time_base > _LATE
        self.origin = pts if late else 0
        self.frame_count = self._count()

    def _first_frame(self) -> _Stamped:
        first = next(self._frames, None)
        if first is None:
            raise InputError(f"{self.name} holds no video frame: copy it again or leave it out")
        return first

    def _from_start(self) -> Iterator[_Stamped]:
        """Decode from a little before the first wanted frame on."""
        start = (self._span.start or 0) - _RUN_UP
        if start > self._begin and not self.live:
            if seek(self._container, start):
                frames = self._decode()
                first = next(frames, None)
                if first is not None and self._is_early(*first):
                    return chain([first], frames)
            self.close()
            self._open()  # the place cannot be found without reading up to it
        return self._decode()

    def _is_early(self, pts: int, frame: VideoFrame) -> bool:
        """Tell whether reading on from a frame misses none that is wanted."""
        return frame.pts is not None and pts * self.time_base <= (self._span.start or 0)

    def _decode(self) -> Iterator[_Stamped]:
        clock = Clock(time_base=self.time_base, step=self._step, live=self.live)
        silence_ends = self.live and ends_by_silence(str(self.location))
        for frame in Decoder(
            self._container,
            self._stream,
            name=self.name,
            live=self.live,
            silence_ends=silence_ends,
        ):
            yield clock.stamp(frame.pts), frame

    def _wanted(self, frames: Iterator[_Stamped]) -> Iterator[_Stamped]:
        """Leave out what lies outside the span.

        Raises:
            InputError: If that is everything.
        """
        time, found = self._begin, False
        for pts, frame in frames:
            time = float(pts * self.time_base)
            if self._span.is_behind(time):
                break
            if not self._span.is_before(time):
                found = True
                yield pts, frame
        else:
            self.finished = True
        if not found and self._span != Span():
            last = max(time, self._begin + (self.duration or 0))
            raise InputError(
                f"{self.name} has no frame {self._span}: it goes from {self._begin:.2f} s to "
                f"{last:.2f} s, so choose other times"
            )

    def _count(self) -> int | None:
        count: int | None = self._stream.frames
        whole = self._span == Span()
        length = self._span.shorten(self.duration, begin=self._begin)
        if not (count and whole):
            spanned = None if length is None else max(1, round(length * self.rate))
            count = spanned if not count or spanned is None else min(count, spanned)
        limits = [n for n in (count, self._max_frames) if n is not None]
        return min(limits, default=None)


def _giving(image: Image) -> Callable[[], Image]:
    """A function that gives an image."""
    return lambda: image

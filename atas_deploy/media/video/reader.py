"""Reading video: every frame upright and in RGB, with the time stamp it has in the file."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import check_readable
from atas_deploy.media.video.ledger import Ledger

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv", ".y4m"}
)
EXACT_CHROMA = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
"""swscale flags without which colours come out one or two levels too dark."""

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_FIRST_HD_HEIGHT = 720
_LENGTH_TOLERANCE = 1.0  # seconds; muxers round and pad
_QUARTER_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        index: Its number, from 0.
        time: Its time stamp in seconds.
        pts: Its time stamp in ticks of ``time_base``.
        duration: How long it stays, in ticks.
        time_base: One tick in seconds.
        image: (H, W, 3) uint8 RGB.
    """

    index: int
    time: float
    pts: int
    duration: int
    time_base: Fraction
    image: npt.NDArray[np.uint8]


class VideoReader:
    """The frames of a video file, decoded one at a time while you iterate; once.

    The first frame fixes the size; later ones of another size are scaled to it, as players do.

    Damage is an error at the end even where decoding goes on behind it: frames that the file lists
    and that do not come out are counted (H.264 and HEVC in MP4 and Matroska). Two losses leave no
    trace: what decoders conceal, and blocks of a Matroska file that can no longer be told apart,
    since that format lists none; there, only an end that comes more than a second early is noticed.

    Attributes:
        path: The file.
        size: (height, width) of every frame, in pixels, after rotation.
        pixel_aspect: Width of a pixel over its height; 1 but for old camcorders and discs.
        rate: Average frames a second; only a guide where the rate varies.
        time_base: One tick of the time stamps, in seconds.
        duration: Length in seconds, None if the file does not say.
        frame_count: Estimated number of frames that iteration yields, None if unknown.
        finished: True once iteration has reached the end of the file, without an error.
    """

    def __init__(self, path: Path, *, max_frames: int | None = None) -> None:
        """Open a video and decode its first frame.

        Args:
            path: The file.
            max_frames: Stop after so many frames; None reads all.

        Raises:
            InputError: If the file is missing, empty, unreadable, or holds no video frame.
        """
        self.path = path
        self.finished = False
        self._max_frames = max_frames
        self._missing = ""
        self._container = _open(path)
        self._reformatter = VideoReformatter()
        try:
            self._stream = _video_stream(self._container, path)
            self._ledger = Ledger(self._container, self._stream)
            self._decoded = self._decode()
            self._first = self._decode_first()
        except BaseException:
            self.close()
            raise
        height, width = self._first.height, self._first.width
        self._turns = round(self._first.rotation / 90) % 4
        self._coded_size = (height, width)
        self.size = (width, height) if self._turns % 2 else (height, width)
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / aspect if self._turns % 2 else aspect
        self.rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.time_base = self._stream.time_base or 1 / self.rate
        self.duration = _duration(self._container, self._stream)
        self.frame_count = self._count()

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
        step = max(1, round(1 / (self.rate * self.time_base)))
        pts = -step
        for index, decoded in enumerate(islice(self._frames(), self._max_frames)):
            pts = pts + step if decoded.pts is None else decoded.pts
            yield Frame(
                index=index,
                time=float(pts * self.time_base),
                pts=pts,
                duration=decoded.duration or step,
                time_base=self.time_base,
                image=self._to_rgb(decoded),
            )

    def _frames(self) -> Iterator[VideoFrame]:
        yield self._first
        yield from self._decoded
        self.finished = True

    def _decode_first(self) -> VideoFrame:
        first = next(self._decoded, None)
        if first is None:
            raise InputError(f"{self.path} holds no video frame: copy it again or leave it out")
        return first

    def _decode(self) -> Iterator[VideoFrame]:
        """Decode to the end; on damage, first give the good frames still inside the decoder."""
        damage = None
        try:
            for packet in self._sound_packets():
                self._ledger.sent(packet)
                yield from self._ledger.received(self._stream.decode(packet))
        except av.FFmpegError as error:
            damage = error
        with suppress(av.FFmpegError):
            yield from self._ledger.received(self._stream.decode(None))
        if damage is not None:
            raise self._damaged(damage.strerror or str(damage)) from damage
        if self._missing:
            raise self._damaged(self._missing)
        if self._ledger.lost:
            raise self._damaged(f"{self._ledger.lost} frames in the middle are missing")

    def _sound_packets(self) -> "Iterator[Packet[Stream]]":
        """Yield the packets of the video stream, and note at the end whether any were lost."""
        count, end, torn = 0, 0.0, None
        for packet in self._container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != self._stream.index or not packet.size:
                continue
            count += 1
            if torn is not None:
                yield torn  # broadcasts lose a bit now and then, and decoders conceal it
            torn = packet if packet.is_corrupt else None
            if torn is None:
                yield packet
        lost = len(self._stream.index_entries) - count
        length = _declared_length(self._container)
        if lost > 0 or torn is not None:
            self._missing = f"its last {max(lost, 1)} frames are missing"
        elif end + _LENGTH_TOLERANCE < length:
            self._missing = f"it ends at {end:.1f} s of {length:.1f} s"

    def _damaged(self, cause: str) -> InputError:
        return InputError(
            f"{self.path} is damaged or cut off ({cause}): copy it again, "
            "or use the frames before the damage"
        )

    def _to_rgb(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        height, width = self._coded_size
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=_colorspace(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=EXACT_CHROMA,
            threads=1,
        ).to_ndarray()
        image = cv2.rotate(rgb, _QUARTER_TURNS[self._turns]) if self._turns else rgb
        return np.asarray(image, np.uint8)

    def _count(self) -> int | None:
        count: int | None = self._stream.frames
        if not count:
            count = None if self.duration is None else round(self.duration * self.rate)
        limits = [n for n in (count, self._max_frames) if n is not None]
        return min(limits, default=None)


def open_media(path: Path) -> InputContainer:
    """Open a media file; the prefix keeps FFmpeg from reading "a:b.mp4" as a protocol."""
    return av.open(f"file:{path}", metadata_errors="replace")


def is_video(path: Path) -> bool:
    """Tell from its content whether a file holds video."""
    try:
        container = _open(path)
    except InputError:
        return False
    with container:
        return any(_is_moving(stream) for stream in container.streams.video)


def _reason(error: Exception) -> str:
    """What FFmpeg says, without its number and the path, in lower case."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def _open(path: Path) -> InputContainer:
    check_readable(path, kind="a video")
    try:
        container = open_media(path)
    except (av.FFmpegError, ValueError) as error:
        raise InputError(
            f"{path} is not a video that can be read here ({_reason(error)}): "
            "check that it is whole, or convert it to MP4"
        ) from error
    if container.format.name == "tty":  # FFmpeg plays text files as animations
        container.close()
        raise InputError(f"{path} is a text file, expected a video: check the path")
    return container


def _is_moving(stream: VideoStream) -> bool:
    """Tell video from the cover picture of a song, and from codecs without a decoder."""
    decodable: object = stream.codec_context  # None for codecs that this build lacks
    return decodable is not None and not stream.disposition & Disposition.attached_pic


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    streams = [stream for stream in container.streams.video if _is_moving(stream)]
    if not streams:
        raise InputError(f"{path} has no video stream that can be decoded: convert it to MP4")
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    stream.thread_type = "AUTO"  # also decodes frames in parallel
    return stream


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _declared_length(container: InputContainer) -> float:
    """Read the length in seconds that a Matroska file states, 0 for other formats.

    Others list their frames, or have FFmpeg work the length out from what is there.
    """
    stated = container.duration if container.format.name.startswith("matroska") else None
    return (stated or 0) / av.time_base


def _colorspace(frame: VideoFrame) -> int | None:
    """Name the YUV matrix; where the file does not, guess by height as players do."""
    if frame.colorspace != _UNSPECIFIED:
        return None
    return Colorspace.ITU709 if frame.height >= _FIRST_HD_HEIGHT else Colorspace.ITU601

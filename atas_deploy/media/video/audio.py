"""Carrying the sound of one media file into another, packet by packet, in step with the video."""

from collections.abc import Container, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard

from atas_deploy.media.video.opening import open_media, seek

_RUN_UP = 1.0  # seconds; tracks may lie that far apart in a file

COPIED_CODECS = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
"""What MP4 carries as it is; all else becomes AAC."""

_AAC_RATES = frozenset(
    {8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000}
)
_AAC_LAYOUTS = {1: "mono", 6: "5.1"}  # by channels; all else is mixed to stereo


class AudioCopy:
    """The sound tracks of a file on their way into an MP4 that is being written.

    The source is read a second time, only as far as the video has been written, so that nothing
    is held in memory. Time stamps stay as they are, or count from an origin. Damaged packets are
    left out, like those of a track that cannot be decoded though it would have to be.
    """

    def __init__(
        self, source: Path, output: OutputContainer, *, origin: Fraction = Fraction(0)
    ) -> None:
        """Open the source and announce its tracks to the output, before its first packet.

        Args:
            source: The file whose sound is wanted.
            output: The container that is written; must not have started.
            origin: Time in the source, in seconds, that becomes 0; what is before it is left out.
        """
        self._input = open_media(source)
        self._output = output
        if origin and not seek(self._input, float(origin) - _RUN_UP):
            self._input.close()
            self._input = open_media(source)
        self._origin = origin
        tracks = [_track(stream, output) for stream in self._input.streams.audio]
        self._tracks = {track.index: track for track in tracks if track is not None}
        self._packets = _demux(self._input, self._tracks)
        self._pending = self._next()

    def advance(self, time: float) -> None:
        """Write every packet that begins before a time, given in seconds."""
        while self._pending is not None:
            packet, begin = self._pending
            if begin >= time:
                return
            self._tracks[packet.stream.index].write(packet)
            self._pending = self._next()

    def _next(self) -> "tuple[Packet[AudioStream], float] | None":
        """Return the next packet wanted, on the new time line, and its time in seconds."""
        for packet in self._packets:
            time = self._tracks[packet.stream.index].stamp(packet, origin=self._origin)
            if time >= 0 or not self._origin:
                return packet, time
        return None

    def finish(self) -> None:
        """Write what the encoders still hold and close the source."""
        for track in self._tracks.values():
            track.flush()
        self._input.close()

    def close(self) -> None:
        """Close the source without writing anything more."""
        self._input.close()


class _CopiedTrack:
    """A track whose packets MP4 carries unchanged."""

    def __init__(self, source: AudioStream, output: OutputContainer) -> None:
        self.index = source.index
        self._output = output
        self._tick = Fraction(1, source.rate)
        self._target = output.add_stream_from_template(source)
        self._last_dts: int | None = None
        self._next_pts = source.start_time or 0

    def stamp(self, packet: "Packet[AudioStream]", *, origin: Fraction) -> float:
        """Give a packet time stamps that count from an origin; return its time in seconds."""
        if packet.pts is None:
            packet.pts = self._next_pts if packet.dts is None else packet.dts
        if packet.dts is None:
            packet.dts = packet.pts
        self._next_pts = packet.pts + (packet.duration or 0)
        if origin:
            self._shift(packet, origin)
        return float(packet.pts * packet.time_base)

    def _shift(self, packet: "Packet[AudioStream]", origin: Fraction) -> None:
        """Count from an origin, in samples: the ticks of AVI files are whole packets."""
        tick = self._tick
        stamps = (packet.pts, packet.dts, packet.duration)
        pts, dts, duration = (Fraction(stamp or 0) * packet.time_base for stamp in stamps)
        packet.pts, packet.dts = round((pts - origin) / tick), round((dts - origin) / tick)
        packet.duration = round(duration / tick)
        packet.time_base = tick

    def write(self, packet: "Packet[AudioStream]") -> None:
        if self._last_dts is not None and packet.dts is not None and packet.dts <= self._last_dts:
            return  # MP4 forbids going back in time; the rest of the track is still good
        self._last_dts = packet.dts
        packet.stream = self._target
        with suppress(av.error.InvalidDataError):
            self._output.mux(packet)

    def flush(self) -> None:
        """Do nothing: packets are not held back."""


class _EncodedTrack(_CopiedTrack):
    """A track that has to become AAC."""

    def __init__(self, source: AudioStream, output: OutputContainer) -> None:
        self.index = source.index
        self._output = output
        self._tick = Fraction(1, source.rate)
        rate = source.rate if source.rate in _AAC_RATES else 48_000
        self._target = output.add_stream("aac", rate=rate)
        self._target.layout = _AAC_LAYOUTS.get(source.channels, "stereo")
        self._next_pts = source.start_time or 0

    def write(self, packet: "Packet[AudioStream]") -> None:
        with suppress(av.error.InvalidDataError):
            for frame in packet.decode():
                self._output.mux(self._target.encode(frame))

    def flush(self) -> None:
        self._output.mux(self._target.encode(None))


def _track(source: AudioStream, output: OutputContainer) -> _CopiedTrack | None:
    """Choose how a track is carried; None if it cannot be."""
    codec: CodecContext | None = source.codec_context  # None where the decoder is missing
    if codec is None or not source.rate:
        return None
    if codec.codec.canonical_name in COPIED_CODECS:
        return _CopiedTrack(source, output)
    return _EncodedTrack(source, output)


def _demux(container: InputContainer, wanted: Container[int]) -> "Iterator[Packet[AudioStream]]":
    """Yield the wanted streams' packets; damage ends the sound where it ends the picture too."""
    for stream in container.streams:
        stream.discard = Discard.default if stream.index in wanted else Discard.all
    streams = [stream for stream in container.streams.audio if stream.index in wanted]
    if not streams:  # demux() would read the whole file in search of nothing
        return
    with suppress(av.FFmpegError):
        for packet in container.demux(streams):
            if packet.size:
                yield cast("Packet[AudioStream]", packet)

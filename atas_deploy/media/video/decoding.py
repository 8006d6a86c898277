"""Decoding a stream to its end, and telling there what was lost on the way."""

from collections.abc import Iterator
from contextlib import suppress

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from atas_deploy.core.errors import InputError
from atas_deploy.media.video import live
from atas_deploy.media.video.ledger import Ledger
from atas_deploy.media.video.opening import decoder_for, reason

_LENGTH_TOLERANCE = 1.0  # seconds; muxers round and pad


class Decoder:
    """The frames of a stream, from where its container stands, in order of time.

    Args:
        container: The opened file or live stream.
        stream: The stream wanted.
        name: How messages name the container.
        live: Whether it is one that begins and ends anywhere.
        silence_ends: Whether a live stream that falls silent is over, rather than broken off.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        name: str,
        live: bool = False,
        silence_ends: bool = False,
    ) -> None:
        self._container = container
        self._stream = stream
        self._name = name
        self._live = live
        self._silence_ends = silence_ends
        self._context = decoder_for(stream)
        self._ledger = Ledger(container, stream)
        self._missing = ""

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decode to the end; on damage, first give the good frames still inside the decoder.

        Raises:
            InputError: Where the stream is damaged, cut off or silent for too long.
        """
        damage: av.FFmpegError | None = None
        try:
            for packet in self._sound_packets():
                self._ledger.sent(packet)
                yield from self._ledger.received(self._decode(packet))
        except av.FFmpegError as error:
            damage = error
        with suppress(av.FFmpegError):
            yield from self._ledger.received(self._context.decode(None))
        silent = isinstance(damage, av.error.ExitError)
        if damage is not None and not (silent and self._silence_ends):
            cause = f"no data came for {live.READ_TIMEOUT:g} s" if silent else reason(damage)
            raise self._damaged(cause) from damage
        if self._missing:
            raise self._damaged(self._missing)
        if self._ledger.lost and not self._live:
            raise self._damaged(f"{self._ledger.lost} frames in the middle are missing")

    def _decode(self, packet: "Packet[Stream]") -> list[VideoFrame]:
        try:
            return self._context.decode(packet)
        except av.error.InvalidDataError:
            if self._live:  # joined between key frames, or something got lost on the way
                return []
            raise

    def _sound_packets(self) -> "Iterator[Packet[Stream]]":
        """Yield the packets of the video stream, and note at the end whether any were lost."""
        count, first, end, torn = 0, None, 0.0, None
        for packet in self._container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != self._stream.index or not packet.size:
                continue
            first = packet.dts if not count else first
            count += 1
            if torn is not None:
                yield torn  # broadcasts lose a bit now and then, and decoders conceal it
            torn = packet if packet.is_corrupt else None
            if torn is None:
                yield packet
        if self._live:
            return
        lost = self._listed(first) - count
        length = _declared_length(self._container)
        if lost > 0 or torn is not None:
            self._missing = f"its last {max(lost, 1)} frames are missing"
        elif end + _LENGTH_TOLERANCE < length:
            self._missing = f"it ends at {end:.1f} s of {length:.1f} s"

    def _listed(self, first: int | None) -> int:
        """Count the frames that the file lists from the first one read on."""
        entries = self._stream.index_entries
        if first is None:
            return 0
        return sum(entry.timestamp >= first for entry in entries)

    def _damaged(self, cause: str) -> InputError:
        if self._live:
            return InputError(
                f"{self._name} broke off ({cause}): check the connection and that it still sends"
            )
        return InputError(
            f"{self._name} is damaged or cut off ({cause}): copy it again, "
            "or use the frames before the damage"
        )


def _declared_length(container: InputContainer) -> float:
    """Read the length in seconds that a Matroska file states, 0 for other formats.

    Others list their frames, or have FFmpeg work the length out from what is there.
    """
    stated = container.duration if container.format.name.startswith("matroska") else None
    return (stated or 0) / av.time_base

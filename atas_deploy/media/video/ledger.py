"""Keeping count of the frames of a video, so that none goes missing unnoticed."""

from collections.abc import Iterable, Iterator

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_ONE_FRAME_A_PACKET = frozenset({"h264", "hevc"})


class Ledger:
    """What the decoder lost without a word: packets sent against frames received, by time stamp.

    Only for formats where a packet is a frame; others have invisible ones, or several in one.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        listed = container.format.name.startswith(("mov", "matroska"))
        self._counts = listed and stream.codec_context.name in _ONE_FRAME_A_PACKET
        self._awaited: set[int] = set()
        self._first: int | None = None

    def sent(self, packet: "Packet[Stream]") -> None:
        """Expect a frame of a packet, unless the file marks it as cut out."""
        if self._counts and packet.pts is not None and not packet.is_discard:
            self._awaited.add(packet.pts)

    def received(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Check frames off as they pass."""
        for frame in frames:
            if frame.interlaced_frame:  # its two fields may be packets of their own
                self._counts = False
            if frame.pts is not None:
                self._first = frame.pts if self._first is None else self._first
                self._awaited.discard(frame.pts)
            yield frame

    @property
    def lost(self) -> int:
        """Frames missing after the first; what comes before it may rest on frames cut away."""
        if not self._counts or self._first is None:
            return 0
        return sum(pts > self._first for pts in self._awaited)

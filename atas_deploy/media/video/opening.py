"""Opening video: what is a video, which of its streams, and one sentence for each failure."""

from fractions import Fraction
from pathlib import Path

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from atas_deploy.core.errors import BackendUnavailableError, InputError
from atas_deploy.media.images import MAX_PIXELS, check_readable

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv", ".y4m"}
)

_HIGHEST_RATE = 1_000  # frames a second; files that claim more are mistaken
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own ignore transparency


def is_video(path: Path) -> bool:
    """Tell from its content whether a file holds video."""
    try:
        container = open_file(path)
    except InputError:
        return False
    with container:
        return any(_is_moving(stream) for stream in container.streams.video)


def open_media(path: Path, *, gpu: int | None = None) -> InputContainer:
    """Open a media file; the prefix keeps FFmpeg from reading "a:b.mp4" as a protocol.

    Args:
        path: The file.
        gpu: Number of the NVIDIA GPU that decodes video, where it knows the codec, and gives
            frames back to the host; None decodes on the CPU.
    """
    # `primary_ctx`: in the context that CUDA's other users in this process share
    shared: dict[str, object] = {"primary_ctx": "1"}
    nvdec = HWAccel("cuda", gpu, allow_software_fallback=True, options=shared)
    return av.open(
        f"file:{path}", metadata_errors="replace", hwaccel=None if gpu is None else nvdec
    )


def open_file(path: Path, *, gpu: int | None = None) -> InputContainer:
    """Open a file that should be a video; `gpu` as for `open_media`.

    Raises:
        InputError: If it is missing, empty, unreadable or a text.
        BackendUnavailableError: If the GPU cannot decode.
    """
    check_readable(path, kind="a video")
    try:
        container = open_media(path, gpu=gpu)
    except (av.FFmpegError, ValueError) as error:
        if gpu is not None:
            open_file(path).close()  # it raises if the file is at fault
            raise BackendUnavailableError(
                f"The GPU {gpu} does not decode video ({reason(error)}): check the driver with "
                "`nvidia-smi`, or use --decoder cpu."
            ) from error
        raise InputError(
            f"{path} is not a video that can be read here ({reason(error)}): "
            "check that it is whole, or convert it to MP4"
        ) from error
    refuse_text(container, str(path))
    return container


def refuse_text(container: InputContainer, name: str) -> None:
    """Close and refuse a text, which FFmpeg would play as an animation.

    Raises:
        InputError: If it is one.
    """
    if container.format.name == "tty":
        container.close()
        raise InputError(f"{name} is a text, expected a video: check the path")


def reason(error: Exception) -> str:
    """What FFmpeg says, without its number and the path, in lower case."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """Choose the stream that players would show.

    Args:
        container: The opened file or live stream.
        name: How messages name it.

    Raises:
        InputError: If there is none that can be decoded, or its frames are too large.
    """
    streams = [stream for stream in container.streams.video if _is_moving(stream)]
    if not streams:
        raise InputError(f"{name} has no video stream that can be decoded: convert it to MP4")
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    if stream.width * stream.height > MAX_PIXELS:
        raise InputError(
            f"{name} has frames of {stream.width} x {stream.height} pixels, more than the "
            f"{MAX_PIXELS} that are allowed: scale it down or copy it again"
        )
    stream.thread_type = "AUTO"  # also decodes frames in parallel
    return stream


def decoder_for(stream: VideoStream) -> VideoCodecContext:
    """Return what decodes a stream, the one that keeps transparency where there is any."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    try:
        context = Codec(name, "r").create("video")
    except UnknownCodecError:
        return stream.codec_context
    context.extradata = stream.codec_context.extradata
    return context


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the average frames a second, 25 where the file says nothing credible."""
    stated = (stream.average_rate, stream.guessed_rate)
    return next((rate for rate in stated if rate and 0 < rate <= _HIGHEST_RATE), Fraction(25))


def time_span(container: InputContainer, stream: VideoStream) -> tuple[float, float | None]:
    """Return where the video begins and how long it lasts, in seconds; None if not stated."""
    if stream.duration and stream.time_base:
        begin = (stream.start_time or 0) * stream.time_base
        return float(begin), float(stream.duration * stream.time_base)
    length = container.duration / av.time_base if container.duration else None
    return (container.start_time or 0) / av.time_base, length


def seek(container: InputContainer, time: float) -> bool:
    """Go to a key frame before a time in seconds; False if the format cannot."""
    try:
        container.seek(round(time * av.time_base), backward=True)
    except (av.FFmpegError, OverflowError):
        return False
    return True


def _is_moving(stream: VideoStream) -> bool:
    """Tell video from the cover picture of a song, and from codecs without a decoder."""
    decodable: object = stream.codec_context  # None for codecs that this build lacks
    return decodable is not None and not stream.disposition & Disposition.attached_pic

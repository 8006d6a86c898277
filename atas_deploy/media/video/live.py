"""Opening cameras and streams from the network, without waiting for ever."""

import re
import sys

import av
from av.container import InputContainer

from atas_deploy.core.errors import InputError
from atas_deploy.media.live import redact
from atas_deploy.media.video.opening import reason, refuse_text

OPEN_TIMEOUT = 15.0
"""Seconds that a server or a camera may take until the first frames are there."""

READ_TIMEOUT = 10.0
"""Seconds without anything after which a stream counts as broken off."""

_CAMERA = re.compile(r"(?:camera:|/dev/video)(\d+)", re.IGNORECASE)
_ENDLESS = ("rtp:", "udp:")  # protocols that cannot say that a stream has ended
_OPTIONS = {"rtsp_flags": "prefer_tcp"}  # over UDP, RTSP loses packets and firewalls stop it


def open_live(location: str) -> InputContainer:
    """Connect to a stream or a camera.

    Args:
        location: An address such as "rtsp://host/path", or "camera:0" or "/dev/video0".

    Raises:
        InputError: If it does not answer, is refused, or this build of PyAV cannot read it.
    """
    name = redact(location)
    device, layer = _camera(location)
    cure = "check the camera's number and cable" if layer else "check the address and that it sends"
    try:
        container = av.open(
            device,
            format=layer,
            options={} if layer else _OPTIONS,
            timeout=(OPEN_TIMEOUT, READ_TIMEOUT),
            metadata_errors="replace",
        )
    except av.error.ExitError as error:
        raise InputError(f"{name} did not answer within {OPEN_TIMEOUT:g} s: {cure}") from error
    except av.error.ProtocolNotFoundError as error:
        raise InputError(
            f"{name} uses a protocol that this build of PyAV lacks: offer the stream over rtsp, "
            "rtmp, http or udp"
        ) from error
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"{name} cannot be opened ({reason(error)}): {cure}") from error
    refuse_text(container, name)
    return container


def ends_by_silence(location: str) -> bool:
    """Tell whether silence is the only way in which a stream can end."""
    return location.lower().startswith(_ENDLESS)


def _camera(location: str) -> tuple[str, str | None]:
    """Return what FFmpeg opens and the device layer that it needs, None for addresses."""
    camera = _CAMERA.fullmatch(location)
    if camera is None:
        return location, None
    number = int(camera[1])
    layer = {"darwin": "avfoundation", "win32": "dshow"}.get(sys.platform, "v4l2")
    try:
        av.ContainerFormat(layer, "r")
    except ValueError as error:
        raise InputError(
            f"{location} cannot be opened since this build of PyAV lacks {layer}: install another "
            "build, or send the camera's pictures as a stream"
        ) from error
    if layer == "dshow":
        return _dshow_name(number, location), layer
    return (f"/dev/video{number}" if layer == "v4l2" else str(number)), layer


def _dshow_name(number: int, location: str) -> str:
    """Windows names its cameras instead of numbering them."""
    names = [
        device.description
        for device in av.device.enumerate_input_devices("dshow")
        if "video" in device.media_types
    ]
    if number >= len(names):
        raise InputError(f"{location} was not found among {len(names)} cameras: check the number")
    return f"video={names[number]}"

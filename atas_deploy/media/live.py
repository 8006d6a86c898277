"""Live inputs: stream addresses and cameras, and how to speak of them without their passwords."""

import re
from pathlib import PurePosixPath

_STREAM = re.compile(r"(?:rtsps?|rtmps?|https?|udp|tcp|rtp|srt)://", re.IGNORECASE)
_CAMERA = re.compile(r"camera:[0-9]{1,4}|/dev/video[0-9]{1,4}", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_HIDDEN = "***"
_LONGEST_NAME = 80  # characters


def is_live(text: str) -> bool:
    """Tell whether an input is a stream address or a camera, rather than a file.

    Streams are rtsp, rtmp, http, https, udp, tcp, rtp and srt addresses; cameras are ``camera:0``,
    ``camera:1`` … and ``/dev/video0`` … .
    """
    return bool(_STREAM.match(text) or _CAMERA.fullmatch(text))


def is_address(text: str) -> bool:
    """Tell whether an input looks like an address of any scheme, also of one that is not read."""
    return bool(_SCHEME.match(text))


def redact(location: object) -> str:
    """Take what may be secret out of a location, for messages and results.

    Hidden are the user and password, the query, and parts of the path with a "=". What follows the
    last "@" counts as the host, so that an odd password never shows. Files stay as they are.

    Args:
        location: A path, a stream address or a camera.
    """
    text = str(location)
    match = _SCHEME.match(text)
    if match is None:
        return text
    scheme, rest = match.groups()
    before, at, address = rest.rpartition("@")
    user = f"{_HIDDEN}@" if before else at
    address, query = re.match(r"([^?#]*)(.*)", address, re.DOTALL).groups()  # type: ignore[union-attr]
    parts = [_HIDDEN if "=" in part else part for part in address.split("/")]
    hidden_query = f"{query[0]}{_HIDDEN}" if query else ""
    return f"{scheme}://{user}{'/'.join(parts)}{hidden_query}"


def live_name(location: str) -> str:
    """Derive a name for the results of a live input: letters, digits, dots, dashes; no secret.

    For example ``rtsp://me:word@10.0.0.5:554/cam/1?key=2`` becomes ``10.0.0.5-554-cam-1`` and
    ``camera:0`` becomes ``camera-0``.
    """
    match = _SCHEME.match(redact(location))
    shown = match[2] if match else location.removeprefix("/dev/")
    name = re.sub(r"[^A-Za-z0-9._]+", "-", shown)[:_LONGEST_NAME].strip("-.")
    return name or (match[1].lower() if match else "live")


def suffix_of(address: str) -> str:
    """Return the suffix of the file that an address names, in lower case, or ""."""
    match = _SCHEME.match(address)
    path = re.split(r"[?#]", match[2] if match else address, maxsplit=1)[0]
    return PurePosixPath(path).suffix.lower()

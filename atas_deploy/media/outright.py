"""Files and streams that a user names outright, rather than by a folder or a glob."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import IMAGE_SUFFIXES, check_readable, is_image
from atas_deploy.media.live import is_address, is_live, live_name, redact, suffix_of
from atas_deploy.media.naming import stem
from atas_deploy.media.video.opening import VIDEO_SUFFIXES, is_video
from atas_deploy.media.walk import real_path

Kind = Literal["image", "video"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outright:
    """A file or stream that was named outright.

    Attributes:
        location: Path of the file, or address of the stream.
        kind: Image or video.
        short: The name it would like.
        long: Its name if others would like the same.
        identity: Real folder and name of the file, or "" and the address: equal for the same thing.
    """

    location: Path | str
    kind: Kind
    short: str
    long: str
    identity: tuple[str, str]


def name_outright(asked: str) -> Outright:
    """Look at an input that is no folder and no glob.

    A file may have any suffix: unless it is known, the content decides.

    Raises:
        InputError: If it is missing, neither image nor video, or an address that is not read.
    """
    if is_live(asked):
        return _live(asked)
    if is_address(asked) and not os.path.lexists(asked):
        raise InputError(
            f"{redact(asked)} is an address that is not read here, expected rtsp, rtmp, http, "
            "https, udp, tcp, rtp or srt: download it first"
        )
    path = Path(asked)
    kind = _sniff(path)
    identity = (real_path(path.parent), path.name)
    return Outright(
        location=path, kind=kind, short=stem(path.name), long=path.name, identity=identity
    )


def kind_by_suffix(file: str) -> Kind | None:
    """Tell the kind of a file by its name; None if it is no image or video."""
    suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def _live(address: str) -> Outright:
    if not address.isprintable():
        raise InputError(
            f"{redact(address)!r} cannot be an address, as it holds characters that do not print: "
            "copy it again"
        )
    if suffix_of(address) in IMAGE_SUFFIXES:
        raise InputError(
            f"{redact(address)} is the address of an image, expected a video stream: "
            "download it first"
        )
    name = live_name(address)
    return Outright(location=address, kind="video", short=name, long=name, identity=("", address))


def _sniff(path: Path) -> Kind:
    """Tell the kind of a file; errors of known kinds wait until it is read."""
    kind = kind_by_suffix(path.name)
    if kind is not None and os.path.exists(path):  # noqa: PTH110
        return kind
    check_readable(path, kind="an image or a video")
    if is_image(path):
        return "image"
    if is_video(path):
        return "video"
    raise InputError(f"{path} is neither an image nor a video that can be read here: convert it")

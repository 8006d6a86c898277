"""Which encoder writes a video, and what quality and speed mean to it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import av
from av.codec import Codec

from atas_deploy.core.errors import BackendUnavailableError, ConfigError

MAX_CRF = 51

H264_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf")
ENCODERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "h264": H264_ENCODERS,
        "hevc": ("libx265", "hevc_videotoolbox", "hevc_mf"),
        "av1": ("libsvtav1", "libaom-av1"),
        "vp9": ("libvpx-vp9",),
    }
)
"""The formats that can be asked for, each with its encoders, the best first."""

_PRESETS = {"libx264": "superfast", "libx265": "veryfast", "libsvtav1": "8", "libvpx-vp9": "7"}
_WITH_PRESET = (*_PRESETS, "libaom-av1", "_nvenc", "_qsv")
_X26X = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
_PIXEL_FORMATS = ("yuv420p", "nv12")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder of this build of PyAV and how it is set up.

    Attributes:
        name: FFmpeg's name for it.
        pixel_format: What it is fed with, "yuv420p" where it can.
        options: FFmpeg's options.
        constant_quality: Whether the options fix the quality; otherwise it needs a bit rate.
        note: One sentence for the user if the encoder is second choice.
    """

    name: str
    pixel_format: str
    options: Mapping[str, str]
    constant_quality: bool
    note: str | None = None


def choose_encoder(
    wanted: str | None = None, *, crf: int = 20, preset: str | None = None
) -> Encoder:
    """Find an encoder in this build of PyAV.

    Args:
        wanted: A format of `ENCODERS` or FFmpeg's name of an encoder; None means "h264".
        crf: Quality on the scale of x264, from 0, lossless, to 51; other encoders get the value of
            their own scale that is as far from its ends.
        preset: The encoder's own name or number for how much time it takes; None leaves it to us.

    Raises:
        BackendUnavailableError: If the build has no H.264 encoder and none else is wanted.
        ConfigError: If the encoder is not in this build, or crf or preset cannot be used with it.
    """
    if not 0 <= crf <= MAX_CRF:
        raise ConfigError(f"Got crf {crf}, expected 0 (lossless) to {MAX_CRF}; 20 is the default")
    name, note = _find(wanted or "h264", by_default=wanted is None)
    _check_preset(name, preset)
    quality = _quality(name, crf)
    return Encoder(
        name=name,
        pixel_format=_pixel_format(name),
        options={**quality, **_speed(name, preset)},
        constant_quality=bool(quality),
        note=note,
    )


def available_encoders() -> list[str]:
    """Name the video encoders of this build that MP4 files can be written with."""
    return sorted(name for name in av.codecs_available if _suits(name))


def _find(wanted: str, *, by_default: bool) -> tuple[str, str | None]:
    best, *others = ENCODERS.get(wanted, (wanted,))
    name = next((name for name in (best, *others) if _suits(name)), None)
    if name is None and by_default:
        raise BackendUnavailableError(
            "this build of PyAV has no H.264 encoder: reinstall it from its wheels with "
            "pip install --force-reinstall av, or ask for another encoder"
        )
    if name is None:
        formats = [name for name, members in ENCODERS.items() if any(map(_suits, members))]
        raise ConfigError(
            f"Got encoder {wanted!r}, but this build of PyAV has {', '.join(formats)} and, by "
            f"FFmpeg's names, {', '.join(available_encoders())}: choose one of them"
        )
    if name == best:
        return name, None
    return name, (
        f"This build of PyAV has no {best}, so video is encoded with {name}, "
        "which makes larger or coarser files"
    )


def _suits(name: str) -> bool:
    try:
        codec = Codec(name, "w")
    except (av.codec.codec.UnknownCodecError, ValueError):
        return False
    formats = {pixels.name for pixels in codec.video_formats or ()}
    # A decoder's name finds its format's first encoder, which has another name.
    return (
        codec.name == name
        and codec.canonical_name in {*ENCODERS, "mpeg4"}
        and not formats.isdisjoint(_PIXEL_FORMATS)
    )


def _pixel_format(name: str) -> str:
    formats = {pixels.name for pixels in Codec(name, "w").video_formats or ()}
    return next(pixels for pixels in _PIXEL_FORMATS if pixels in formats)


def _check_preset(name: str, preset: str | None) -> None:
    """Refuse presets here where the encoder would complain on stderr, or ignore them."""
    if preset is None:
        return
    if not name.endswith(_WITH_PRESET):
        raise ConfigError(f"Got preset {preset!r}, but {name} has no presets: leave it out")
    if name in {"libx264", "libx265"} and preset not in _X26X:
        raise ConfigError(f"Got preset {preset!r}, expected one of {', '.join(_X26X)} for {name}")


def _quality(name: str, crf: int) -> dict[str, str]:
    """Return the options for a constant quality; none if the encoder knows only bit rates."""
    if name in {"libx264", "libx265"}:
        return {"crf": str(crf)}
    if name in {"libsvtav1", "libaom-av1", "libvpx-vp9"}:  # their scale ends at 63
        return {"crf": str(round(crf * 63 / MAX_CRF)), "b": "0"}
    if name.endswith("_nvenc"):
        return {"rc": "vbr", "cq": str(crf), "b": "0"}
    if name.endswith("_qsv"):
        return {"global_quality": str(max(1, crf))}
    return {}


def _speed(name: str, preset: str | None) -> dict[str, str]:
    """Return the options for speed, and those that keep the encoders from talking."""
    preset = preset or _PRESETS.get(name)
    options = {} if preset is None else {"preset": preset}
    if name == "libx265":
        options["x265-params"] = "log-level=error"
    if name in {"libvpx-vp9", "libaom-av1"}:
        speed = {} if preset is None else {"cpu-used": preset}
        options = {"row-mt": "1", **speed}
    if name == "libvpx-vp9":
        options["deadline"] = "realtime"
    if name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only; there is no option for it
    return options

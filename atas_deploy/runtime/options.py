"""What a job writes, and of what."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from atas_deploy.core.errors import ConfigError
from atas_deploy.media.shards import Shard

ADAPTIVE_LEVEL = 0.1
"""What `--adaptive` stands for without a number; docs/commands/segment.md has measurements."""
FORMATS = ("coco", "polygons", "cvat", "label-studio")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The choices of a job beside model and words.

    Attributes:
        opacity: of the colours in overlays, in [0, 1].
        overlay: whether to write overlays at all.
        view: "overlay", or "side": the picture on the left, its overlay on the right.
        npz: also write labels and probabilities of images as NumPy arrays.
        masks: of videos: "png" (a label map a frame), "rle" (a line a frame) or None.
        formats: of `FORMATS`, made from the label maps at the end.
        every: segment each N-th frame of a video; its masks hold until the next.
        smooth: weight of the past in the features of a video, in [0, 1); 0 = off.
        adaptive: encode a frame of a video when what is new since the last encoded one exceeds
            this, in [0, 1), and move its features along to the others; None = encode all.
        start: first second of videos; None = from the beginning.
        end: where to stop, in seconds; None = at the end.
        max_frames: frames read of each video; None = all.
        decoder: of video files: "cpu", or "nvdec", an NVIDIA GPU's, where it knows the codec.
        encoder: of overlay videos; None = the best H.264 encoder there is.
        crf: quality of overlay videos, 0 (lossless) to 51.
        encoder_preset: speed of the encoder; None = its default.
        shard: (i, n): do the i-th of n parts, from 1.
        resume: go on with an earlier run.
        force: replace existing results.

    Raises:
        ConfigError: options that cannot be used, or not together.
    """

    opacity: float = 0.55
    overlay: bool = True
    view: Literal["overlay", "side"] = "overlay"
    npz: bool = False
    masks: Literal["png", "rle"] | None = None
    formats: tuple[str, ...] = ()
    every: int = 1
    smooth: float = 0.0
    adaptive: float | None = None
    start: float | None = None
    end: float | None = None
    max_frames: int | None = None
    decoder: Literal["cpu", "nvdec"] = "cpu"
    encoder: str | None = None
    crf: int = 20
    encoder_preset: str | None = None
    shard: Shard | None = None
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ConfigError(f"The opacity is {self.opacity}; expected a number in [0, 1].")
        if self.every < 1:
            raise ConfigError(f"Got every {self.every} frames; expected 1 or more.")
        if not 0 <= self.smooth < 1:
            raise ConfigError(f"The smoothing is {self.smooth}; expected a number in [0, 1).")
        if self.adaptive is not None and not 0 <= self.adaptive < 1:
            raise ConfigError(f"The adaptive level is {self.adaptive}; expected one in [0, 1).")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ConfigError(
                f"The start, {self.start:g} s, is not before the end, {self.end:g} s; swap them."
            )
        if unknown := set(self.formats) - set(FORMATS):
            raise ConfigError(
                f"Unknown format {min(unknown)!r}; expected some of {', '.join(FORMATS)}."
            )
        if self.shard and self.formats:
            raise ConfigError(
                "Formats of a whole run are not made by a shard; when all shards are done run the "
                "same command with --resume and without --shard."
            )

    def settings(self) -> dict[str, Any]:
        """Those that decide the content of the files, JSON-ready."""
        beside = {"decoder", "formats", "shard", "resume", "force"}
        names = [field.name for field in fields(self) if field.name not in beside]
        return {name: getattr(self, name) for name in names}

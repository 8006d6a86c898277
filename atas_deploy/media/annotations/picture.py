"""What regions are asked for."""

from dataclasses import dataclass

from atas_deploy.core.geometry import Size


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, or a frame of a video, that regions are asked for.

    Attributes:
        name: its path or file name; for a frame that of the video.
        size: (H, W) in pixels.
        frame: number of the frame, from 0 on; None for a picture.
    """

    name: str
    size: Size
    frame: int | None = None

    def __str__(self) -> str:
        """How messages name it."""
        return self.name if self.frame is None else f"{self.name}, frame {self.frame}"

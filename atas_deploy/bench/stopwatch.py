"""How long the stages of a frame take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = (
    *("decode", "preprocess", "transfer", "encoder"),
    *("text_product", "masks", "overlay", "encode"),
)
"""The stages, in order: what the frame goes through from a compressed video to the next."""


class Stopwatch:
    """Collects seconds by stage.

    Attributes:
        seconds: of each frame, by stage; a stage that there is not has none.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, stage: str, *, frames: int = 1) -> Iterator[None]:
        """Time a block that takes some frames through a stage together."""
        start = time.perf_counter()
        yield
        each = (time.perf_counter() - start) / frames
        self.seconds.setdefault(stage, []).extend([each] * frames)

    def last(self, stage: str) -> float:
        """Seconds of the latest frame in a stage."""
        return self.seconds[stage][-1]

    def shift(self, stage: str, seconds: float) -> None:
        """Add what belongs to the latest frame of a stage, or take off, down to nothing."""
        self.seconds[stage][-1] = max(0.0, self.seconds[stage][-1] + seconds)

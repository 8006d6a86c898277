"""Settings of CLIPSelf."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.readouts import check_readout
from atas_deploy.training.ranges import COUNT, NOT_NEGATIVE, POSITIVE_SHARE, check_ranges

Fit = Literal["longest", "squash", "shortest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSelfSettings:
    """Settings of the method.

    Attributes:
        size: L, what the longer side of the student's picture is resized to.
        multiscale: sides that its square is resized to, one drawn for each batch; empty = L.
        readout: how its patches are read in training; "maskclip" is CLIPSelf's.
        max_grid: most rows and columns of a random grid.
        max_regions: most regions of a picture, drawn at random.
        proposals: COCO JSON of boxes to take instead of grids.
        proposal_scale: factor on both sides of a given box that the teacher sees; the student's
            region stays the box. Cells of grids are seen as they are.
        crop_fit: how a crop becomes the teacher's square, see `ImageEmbedder`; None = "squash" if
            the model was trained on squashed pictures, else "longest", CLIPSelf's way: a crop is
            seen in the proportions that the teacher knows, and all of it.
        flip: mirror half of the pictures.
        last_blocks: how many of the last blocks learn; None = all.
        only_blocks: freeze what is in front of and behind the blocks.
        layer_decay: factor of the learning rate from one block to the one below it.
        weight_decay: decay of matrices.
        watch_every: batches from one comparison of class tokens to the next; 0 = none.
    """

    size: int = 448
    multiscale: tuple[int, ...] = ()
    readout: str = "maskclip"
    max_grid: int = 6
    max_regions: int = 20
    proposals: Path | None = None
    proposal_scale: float = 1.5
    crop_fit: Fit | None = None
    flip: bool = False
    last_blocks: int | None = None
    only_blocks: bool = True
    layer_decay: float = 1.0
    weight_decay: float = 0.1
    watch_every: int = 10

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        check_readout(self.readout)
        check_ranges(self, _RANGES)
        if not 1.0 <= self.proposal_scale < float("inf"):
            raise ConfigError(
                f"proposal_scale is {self.proposal_scale}; give 1 or more, CLIPSelf has 1.5."
            )


_RANGES = {
    "size": COUNT,
    "multiscale": COUNT,
    "max_grid": COUNT,
    "max_regions": COUNT,
    "last_blocks": COUNT,
    "layer_decay": POSITIVE_SHARE,
    "weight_decay": NOT_NEGATIVE,
    "watch_every": NOT_NEGATIVE,
}

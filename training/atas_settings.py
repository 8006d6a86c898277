"""Settings of ATAS."""

import math
from dataclasses import dataclass

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.readouts import check_readout
from atas_deploy.runtime.settle import check_choice
from atas_deploy.training.forms import FORMS, REDUCTIONS, Form, Reduction
from atas_deploy.training.ranges import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_OR_INFINITE,
    POSITIVE_SHARE,
    check_ranges,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AtasSettings:
    """Settings of the method.

    Attributes:
        size: largest side of a mosaic in pixels.
        grids: cells on a side of a mosaic; one of them is drawn for each batch.
        readout: how the student's and the teacher's patches are read in training.
        temperature: t of the global losses, which scale cosines by 1 / t.
        pooling_temperature: the same of the pooling weights; infinite gives the mean patch.
        global_to_local: weight of the loss of mosaics' cells.
        local_to_local: weight of the loss of patch similarities.
        global_to_global: weight of the loss of class tokens.
        local_form: "infonce", "cosine" or "kl" for the cells.
        global_form: the same for the class tokens.
        relation_reduction: "row-norm", "mse" or "frobenius" for patch similarities.
        crop_scale: smallest part of an image's side that a view keeps; 1 = always all of it, or a
            square as large as fits if the model was not trained on squashed pictures.
        views: how many different views of an image there are; a later epoch begins anew.
        last_blocks: how many of the last blocks learn; None = all.
        only_blocks: freeze what is in front of and behind the blocks.
        layer_decay: factor of the learning rate from one block to the one below it.
        weight_decay: decay of matrices.
        watch_every: batches from one look for signs of collapse to the next.
    """

    size: int = 336
    grids: tuple[int, ...] = (2, 3)
    readout: str = "vanilla"
    temperature: float = 1.0
    pooling_temperature: float = math.inf
    global_to_local: float = 1.0
    local_to_local: float = 0.0
    global_to_global: float = 3.0
    local_form: Form = "infonce"
    global_form: Form = "cosine"
    relation_reduction: Reduction = "row-norm"
    crop_scale: float = 0.25
    views: int = 8
    last_blocks: int | None = None
    only_blocks: bool = False
    layer_decay: float = 0.75
    weight_decay: float = 0.1
    watch_every: int = 10

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        check_readout(self.readout)
        check_choice("local form", self.local_form, FORMS)
        check_choice("global form", self.global_form, FORMS)
        check_choice("relation reduction", self.relation_reduction, REDUCTIONS)
        if not self.grids or min(self.grids) < 1:
            raise ConfigError(f"The grids are {self.grids}; give numbers of cells, such as 2,4.")
        check_ranges(self, _RANGES)
        if not any((self.global_to_local, self.local_to_local, self.global_to_global)):
            raise ConfigError("The weights of all losses are 0; give one of them a number above 0.")


_RANGES = {
    "size": COUNT,
    "temperature": POSITIVE,
    "pooling_temperature": POSITIVE_OR_INFINITE,
    "global_to_local": NOT_NEGATIVE,
    "local_to_local": NOT_NEGATIVE,
    "global_to_global": NOT_NEGATIVE,
    "crop_scale": POSITIVE_SHARE,
    "views": COUNT,
    "last_blocks": COUNT,
    "layer_decay": POSITIVE_SHARE,
    "weight_decay": NOT_NEGATIVE,
    "watch_every": COUNT,
}

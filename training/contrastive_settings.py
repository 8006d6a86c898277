"""Settings of contrastive training."""

from dataclasses import dataclass

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.ranges import NOT_NEGATIVE, POSITIVE_SHARE, check_ranges


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveSettings:
    """Settings of the method.

    Attributes:
        batch_size: image-text pairs of a batch in each process.
        weight_decay: decay of matrices.
        layer_decay: factor of the learning rate from one image block to the one below it.
        lock_image: train the text tower and both projections only.
        crop_scale: smallest part of an image's side that a crop keeps.
    """

    batch_size: int = 64
    weight_decay: float = 0.1
    layer_decay: float = 1.0
    lock_image: bool = False
    crop_scale: float = 0.9

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        if self.batch_size < 2:
            raise ConfigError(
                f"The batch size is {self.batch_size}; contrast needs 2 pairs at least."
            )
        check_ranges(self, _RANGES)


_RANGES = {
    "weight_decay": NOT_NEGATIVE,
    "layer_decay": POSITIVE_SHARE,
    "crop_scale": POSITIVE_SHARE,
}

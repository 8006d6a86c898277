"""What a training method is to the loop."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from atas_deploy.training.schedule import ParameterGroup

Losses = dict[str, Tensor]


class Objective(Protocol):
    """A training method."""

    @property
    def model(self) -> nn.Module:
        """The model that is trained and saved."""

    def groups(self) -> list[ParameterGroup]:
        """What the optimizer updates."""

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """Losses of one batch.

        Args:
            step: the batch, from 0: the number of the optimizer's step times `accumulate`, plus
                the number of the batch inside that step.
            rng: randomness of this batch, the same in all processes.

        Returns:
            Scalars by name, the same names in all processes. "loss" is minimised: its mean over
            processes must be the mean over all their data. The others are logged.
        """

    def after_step(self) -> None:
        """Keep parameters inside their bounds, after each step of the optimizer."""

    def batch_names(self) -> Sequence[str]:
        """Files of the last batch in this process, one an image."""

    def no_sync(self) -> AbstractContextManager[None]:
        """Inside, gradients are added up in this process only."""


class LocalObjective:
    """Defaults for a method without bounds, files and other processes."""

    def after_step(self) -> None:
        """Nothing is bounded."""

    def batch_names(self) -> Sequence[str]:
        """No files."""
        return ()

    def no_sync(self) -> AbstractContextManager[None]:
        """There is nobody to share gradients with."""
        return nullcontext()

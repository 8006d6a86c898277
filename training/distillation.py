"""What ATAS and CLIPSelf share: a student, its frozen start as the teacher, and their loader."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.vit import DenseViT
from atas_deploy.training.distributed import Group, keeps_local
from atas_deploy.training.loader import Batch, BatchLoader
from atas_deploy.training.schedule import ParameterGroup, parameter_groups
from atas_deploy.training.student import Normalise, Student, frozen_copy, unlock_blocks


class LearnerSettings(Protocol):
    """What of the tower learns, and how fast."""

    @property
    def readout(self) -> str:
        """How patches are read in training."""

    @property
    def last_blocks(self) -> int | None:
        """How many of the last blocks learn; None = all."""

    @property
    def only_blocks(self) -> bool:
        """Whether what is in front of and behind the blocks is frozen."""

    @property
    def layer_decay(self) -> float:
        """Factor of the learning rate from one block to the one below it."""

    @property
    def weight_decay(self) -> float:
        """Decay of matrices."""


class Distillation:
    """All of an `Objective` of the training loop but its losses.

    Args:
        clip: the model to train, on its device.
        loader: gives the batches.
        settings: what learns.
        group: the processes that share a batch.
        compile_student: pass the student to `torch.compile`.

    Attributes:
        model: what is trained and saved.
        teacher: what it was.
        tower: the tower that learns, with its read-out.
        student: the same in one call for several batches, as all processes share it.
        normalise: turns pixels into what both take.

    Raises:
        ConfigError: more blocks are to learn than there are.
    """

    def __init__(
        self,
        clip: ClipModel,
        loader: BatchLoader,
        settings: LearnerSettings,
        *,
        group: Group,
        compile_student: bool,
    ) -> None:
        self.model, self.loader, self.group = clip.model, loader, group
        self.teacher = frozen_copy(clip, readout=settings.readout)
        unlock_blocks(clip, last=settings.last_blocks, only_blocks=settings.only_blocks)
        self.tower = DenseViT(clip.model.visual, readout=settings.readout)
        student = Student(self.tower)
        if compile_student:
            student.compile()
        self.student = group.wrap(student)
        self.normalise = Normalise(clip)
        self._learner = settings
        self._names: Sequence[str] = ()

    def groups(self) -> list[ParameterGroup]:
        """What the optimizer updates."""
        return parameter_groups(
            self.model.named_parameters(),
            weight_decay=self._learner.weight_decay,
            layer_decay=self._learner.layer_decay,
        )

    def after_step(self) -> None:
        """Nothing is bounded."""

    def batch_names(self) -> Sequence[str]:
        """Files of the last batch."""
        return self._names

    def no_sync(self) -> AbstractContextManager[None]:
        """Keep gradients on this process inside the block."""
        return keeps_local(self.student)

    def next_batch(self, step: int) -> Batch:
        """The batch of a step, whose files `batch_names` gives from now on."""
        batch = self.loader.batch(step)
        self._names = batch.names
        return batch

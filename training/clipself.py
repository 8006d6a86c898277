"""CLIPSelf: a CLIP image tower teaches its dense features what its class token knows of regions.

The frozen start of the tower is the teacher. It sees regions of a picture cut out and enlarged, one
by one; the student sees the whole picture, large, and has to tell the same from its dense features
pooled over the regions. What they see is made in `clipself_view`.

B pictures, K regions of all of them, L side of the student's square, S side of the teacher's,
D embedding width

Source: Wu et al., "CLIPSelf: Vision Transformer Distills Itself for Open-Vocabulary Dense
Prediction", ICLR 2024.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.regions import pool_boxes
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.clipself_settings import ClipSelfSettings
from atas_deploy.training.clipself_view import ClipSelfView
from atas_deploy.training.distillation import Distillation
from atas_deploy.training.distributed import SINGLE, Group
from atas_deploy.training.loader import Batch, BatchLoader
from atas_deploy.training.losses import cosine_loss
from atas_deploy.training.objective import Losses
from atas_deploy.training.proposals import open_proposals

_CROPS_AT_ONCE = 256  # in the teacher, which keeps no activations


def make_view(clip: ClipModel, settings: ClipSelfSettings, names: Sequence[str]) -> ClipSelfView:
    """The view that a loader of images makes for a model; its batches need `collate_regions`.

    Args:
        clip: the model to train.
        settings: settings of the method.
        names: of the loader's images.

    Raises:
        InputError: the proposals cannot be read, or are for none of the images.
    """
    red, green, blue = (round(255 * value) for value in clip.mean)
    squashed = clip.config["preprocess_cfg"]["resize_mode"] == "squash"
    given = settings.proposals
    return ClipSelfView(
        size=settings.size,
        side=DenseViT(clip.model.visual).trained_size[0],
        fit=settings.crop_fit or ("squash" if squashed else "longest"),
        fill=(red, green, blue),
        max_grid=settings.max_grid,
        max_regions=settings.max_regions,
        flip=settings.flip,
        proposals=None if given is None else open_proposals(given, names),
        proposal_scale=settings.proposal_scale,
    )


class ClipSelfObjective(Distillation):
    """The loss of CLIPSelf (an `Objective` of the training loop).

    Args:
        clip: the model to train, on its device.
        loader: gives what `ClipSelfView` and `collate_regions` make.
        settings: settings of the method.
        group: the processes that share a batch.
        compile_student: pass the student to `torch.compile`.

    Raises:
        ConfigError: a size does not suit the model.
    """

    def __init__(
        self,
        clip: ClipModel,
        loader: BatchLoader,
        settings: ClipSelfSettings,
        *,
        group: Group = SINGLE,
        compile_student: bool = False,
    ) -> None:
        super().__init__(clip, loader, settings, group=group, compile_student=compile_student)
        self.settings = settings
        self._check_sizes()

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """1 - cosine of the regions of one batch; where it is due, the drift of the class token.

        Returns:
            "loss"; "regions", how many a picture has; at times "class_cosine", mean cosine of
            student and teacher for whole pictures at the teacher's size.
        """
        batch = self.next_batch(step)
        (views,) = self.student([self._pictures(batch, rng)])
        found = pool_boxes(views.dense, self._boxes(batch), size=(1, 1))
        wanted = self._teach(batch.data["crops"])
        count = self.group.total(len(found)) / self.group.world
        loss = cosine_loss(found, wanted, count=count)
        losses = {"loss": loss, "regions": torch.tensor(len(found) / len(batch.names))}
        every = self.settings.watch_every
        return losses | self._watched(batch) if every and (step + 1) % every == 0 else losses

    def _pictures(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """The student's input, (B, 3, L, L), at the batch's scale."""
        pictures, sizes = self.normalise(batch.data["picture"]), self.settings.multiscale
        side = int(rng.choice(sizes)) if sizes else self.settings.size
        if side == pictures.shape[-1]:
            return pictures
        return F.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)

    def _boxes(self, batch: Batch) -> tuple[Tensor, ...]:
        """Regions (k, 4) of each picture, as shares of its square."""
        counts = torch.bincount(batch.data["owner"], minlength=len(batch.names)).tolist()
        return torch.split(batch.data["boxes"].to(self.normalise.device), counts)

    @torch.no_grad()
    def _teach(self, crops: Tensor) -> Tensor:
        """The teacher's class tokens (K, D) of crops (K, 3, S, S) uint8."""
        if not len(crops):
            return torch.zeros(0, self.teacher.embed_dim, device=self.normalise.device)
        parts = torch.split(crops, _CROPS_AT_ONCE)
        return torch.cat([self.teacher(self.normalise(part))[1] for part in parts])

    @torch.no_grad()
    def _watched(self, batch: Batch) -> Losses:
        whole = self.normalise(batch.data["whole"])
        cosines = (self.tower(whole)[1] * self.teacher(whole)[1]).sum(dim=-1)
        return {"class_cosine": cosines.mean()}

    def _check_sizes(self) -> None:
        """Refuse sides that are no whole number of patches."""
        patch = self.teacher.multiple
        for side in (self.settings.size, *self.settings.multiscale):
            if side < patch or side % patch:
                raise ConfigError(
                    f"The size is {side} pixels; give a multiple of the patch size, {patch}, such "
                    f"as {max(1, round(side / patch)) * patch}."
                )

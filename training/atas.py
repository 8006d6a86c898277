"""ATAS: a CLIP image tower teaches itself from mosaics of unlabelled images.

The frozen start of the tower is the teacher. It looks at whole images; the student looks at the
same images alone and as cells of mosaics, and has to tell from the patches of a cell what the
teacher tells from the whole image.

B images, S side of an image in pixels, g x g cells of a mosaic, N patches of a cell,
D embedding width
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.training.atas_settings import AtasSettings
from atas_deploy.training.distillation import Distillation
from atas_deploy.training.distributed import SINGLE, Group
from atas_deploy.training.loader import Batch, BatchLoader, Draw
from atas_deploy.training.loop import Losses
from atas_deploy.training.losses import (
    global_loss,
    local_to_local,
    pool_cells,
    similarities,
)
from atas_deploy.training.mosaic import Sheets, make_mosaics, plan_sheets, split_cells
from atas_deploy.training.pairs import crop
from atas_deploy.training.teacher_cache import TeacherCache

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AtasView:
    """What a step sees of an image: a square, the same for teacher and student.

    Attributes:
        side: S.
        mode: "squash" squeezes the part into the square, anything else cuts a square part.
        scale: smallest part of the side, or of the shorter one, that is kept.
        views: see `AtasSettings`.
    """

    side: int
    mode: str
    scale: float
    views: int

    @property
    def whole(self) -> bool:
        """Whether a view always shows all of the image."""
        return self.scale == 1 and self.mode == "squash"

    @property
    def count(self) -> int:
        """How many different views there are."""
        return 1 if self.whole else self.views

    def __call__(self, image: Pixels, draw: Draw) -> dict[str, Tensor]:
        """Cut (H, W, 3) uint8 RGB to "image", (3, S, S) uint8, and tell which "view" it is."""
        view = draw.epoch % self.count
        rng = np.random.default_rng((draw.seed, view, draw.index))
        part = crop(image, rng, size=self.side, scale=self.scale, mode=self.mode)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1),
            "view": torch.tensor(view),
        }


class AtasObjective(Distillation):
    """The losses of ATAS (an `Objective` of the training loop).

    Args:
        clip: the model to train, on its device.
        loader: gives what `AtasView` makes.
        settings: settings of the method.
        group: the processes that share a batch.
        teacher_cache: keeps the teacher's embeddings of whole images for later epochs.
        compile_student: pass the student to `torch.compile`.
    """

    def __init__(
        self,
        clip: ClipModel,
        loader: BatchLoader,
        settings: AtasSettings,
        *,
        group: Group = SINGLE,
        teacher_cache: TeacherCache | None = None,
        compile_student: bool = False,
    ) -> None:
        super().__init__(clip, loader, settings, group=group, compile_student=compile_student)
        self.settings = settings
        self.scale = 1 / settings.temperature
        self.pooling_scale = 1 / settings.pooling_temperature
        self._cache = teacher_cache

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """The weighted sum of the three losses on one batch, and what tells of a collapse."""
        own, batch = self.settings, self.next_batch(step)
        pictures = self.normalise(batch.data["image"])
        whole = fit(pictures, self.normalise.size)
        grid, patch = int(rng.choice(own.grids)), self.teacher.patch_size
        sheets = plan_sheets(len(whole), grid=grid, size=own.size, patch=patch)
        mosaics = lay_out(pictures, sheets)
        keys, first, count = self._keys(whole, batch)
        ours, twins = keys[first : first + len(whole)], self._twins(batch.indices, first)
        (_, image), *views = self.student([whole, *mosaics])
        dense = [view.dense for view in views]
        distance = partial(
            global_loss, keys=keys, scale=self.scale, first=first, count=count, twins=twins
        )
        parts = {
            "global_to_local": distance(self._pool(dense, sheets, ours), form=own.local_form),
            "global_to_global": distance(image, form=own.global_form),
        }
        looks = (step + 1) % own.watch_every == 0
        targets = self._patches(mosaics) if own.local_to_local or looks else []
        if own.local_to_local:
            parts["local_to_local"] = self._relate(dense, targets, sheets, count)
        seen = watched(image, ours, dense, targets) if looks else {}
        total = torch.stack([getattr(own, name) * value for name, value in parts.items()]).sum()
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}, **seen}

    def _keys(self, whole: Tensor, batch: Batch) -> tuple[Tensor, int, float]:
        """The teacher's embeddings of all processes, our first row, the mean rows of a process."""
        keys = self._teach(whole, batch.indices, batch.data["view"])
        count = self.group.total(len(keys)) / self.group.world
        return self.group.gather(keys), self.group.start(len(keys)), count

    def _twins(self, indices: Tensor, first: int) -> Tensor:
        """Which other keys are of the image of a row, (B, K): some may be where an epoch ends."""
        same = indices[:, None] == self.group.gather(indices)
        same.diagonal(first).fill_(False)
        return same.to(self.normalise.device)

    @torch.no_grad()
    def _teach(self, whole: Tensor, indices: Tensor, views: Tensor) -> Tensor:
        """The teacher's embeddings of whole images, (B, D), out of the cache if it has them."""
        if self._cache is None:
            image: Tensor = self.teacher(whole)[1]
            return image
        keys = torch.empty(len(whole), self.teacher.embed_dim)
        for view in sorted(set(views.tolist())):
            rows = (views == view).nonzero()[:, 0]
            keys[rows], known = self._cache.lookup(indices[rows], view)
            if len(new := rows[~known]):
                fresh = self.teacher(whole[new.to(whole.device)])[1].cpu()
                self._cache.store(indices[new], view, fresh)
                keys[new] = fresh
        return keys.to(whole.device)

    @torch.no_grad()
    def _patches(self, mosaics: Sequence[Tensor]) -> list[Tensor]:
        """The teacher's patches of mosaics, (M, h, w, D) of each kind."""
        return [self.teacher(some)[0] for some in mosaics]

    def _pool(self, dense: Sequence[Tensor], sheets: Sequence[Sheets], keys: Tensor) -> Tensor:
        """One local vector an image, (B, D), from mosaics of several kinds."""
        parts = torch.split(keys, [some.images for some in sheets])
        pooled = [
            pool_cells(
                split_cells(mosaics, grid=some.grid).flatten(1, 2), own, scale=self.pooling_scale
            )
            for mosaics, some, own in zip(dense, sheets, parts, strict=True)
        ]
        return torch.cat(pooled)

    def _relate(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        sheets: Sequence[Sheets],
        count: float,
    ) -> Tensor:
        """Distance of patch similarities; a mosaic counts by the number of its images."""
        reduction = self.settings.relation_reduction
        each = [
            some.images * local_to_local(a.flatten(1, 2), b.flatten(1, 2), reduction=reduction)
            for a, b, some in zip(student, teacher, sheets, strict=True)
        ]
        return torch.stack(each).sum() / count


def fit(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, 3, S, S) to (B, 3, H, W) with antialiasing."""
    if pictures.shape[2:] == size:
        return pictures
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True)


def lay_out(pictures: Tensor, sheets: Sequence[Sheets]) -> list[Tensor]:
    """Mosaics of each kind from a batch of squares, in their order."""
    parts = torch.split(pictures, [some.images for some in sheets])
    return [make_mosaics(part, some) for part, some in zip(parts, sheets, strict=True)]


@torch.no_grad()
def watched(
    image: Tensor, keys: Tensor, student: Sequence[Tensor], teacher: Sequence[Tensor]
) -> Losses:
    """How far the student is from its teacher.

    Args:
        image: (B, D) student's class tokens of whole images.
        keys: (B, D) teacher's.
        student: (M, h, w, D) student's patches of mosaics, a tensor for each kind.
        teacher: the teacher's.

    Returns:
        "class_cosine" and "patch_cosine", means; "relation_error", root mean square error of the
        matrices of patch similarities.
    """
    pairs = [(a.flatten(1, 2), b.flatten(1, 2)) for a, b in zip(student, teacher, strict=True)]
    cosines = torch.cat([(a * b).sum(dim=-1).flatten() for a, b in pairs])
    errors = [(similarities(a) - similarities(b)).square().flatten() for a, b in pairs]
    return {
        "class_cosine": (image * keys).sum(dim=-1).mean(),
        "patch_cosine": cosines.mean(),
        "relation_error": torch.cat(errors).mean().sqrt(),
    }

"""Contrastive training of a CLIP model on image-text pairs.

B images, T texts, D embedding width, S side of a training crop, L tokens
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.text import OpenClip, TextEncoder
from atas_deploy.core.errors import TrainingError
from atas_deploy.core.hf_tokenizer import Tokenizer
from atas_deploy.training.contrastive_settings import ContrastiveSettings
from atas_deploy.training.distributed import SINGLE, Group, keeps_local
from atas_deploy.training.loop import Losses
from atas_deploy.training.pairs import Pairs, crop
from atas_deploy.training.schedule import ParameterGroup, parameter_groups
from atas_deploy.training.stream import Stream
from atas_deploy.training.student import Normalise

MAX_LOG_SCALE = math.log(100.0)  # CLIP's bound
_TEXTS_AT_ONCE = 96


def contrastive_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE with any number of positives.

    The target of an image is the distribution over texts that its row of `positives` gives, and
    the other way round; rows and columns without a positive serve as negatives only.

    Args:
        image_features: (B, D), L2-normalised.
        text_features: (T, D), L2-normalised.
        logit_scale: factor of the cosines, a scalar.
        positives: (B, T) weights >= 0; None pairs image i with text i.

    Returns:
        The mean of both directions, a scalar in float32.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", ICML 2021, figure 3.
    """
    logits = logit_scale.float() * cosines(image_features, text_features)
    if positives is None:
        targets = torch.arange(len(logits), device=logits.device)
        return 0.5 * (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets))
    return 0.5 * (soft_cross_entropy(logits, positives) + soft_cross_entropy(logits.T, positives.T))


def shared_contrastive_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    items: Tensor,
    group: Group,
) -> Tensor:
    """This process's share of `contrastive_loss` over the pairs of all processes.

    An image that is in the batch twice, as it may be where an epoch ends, is no negative of itself.

    Args:
        image_features: (B, D), L2-normalised; B may differ between the processes.
        text_features: (B, D), L2-normalised; row i belongs to image i.
        logit_scale: factor of the cosines, a scalar.
        items: (B,) int64, which images the pairs are of.
        group: the processes.

    Returns:
        A scalar in float32; its mean over the processes is the loss over all pairs.
    """
    images = group.gather_with_gradient(image_features)
    texts = group.gather_with_gradient(text_features)
    own = len(image_features)
    targets = group.start(own) + torch.arange(own, device=images.device)
    same = items[:, None] == group.gather(items)
    same[torch.arange(own), targets] = False
    both = ((image_features, texts), (text_features, images))
    logits = [logit_scale.float() * cosines(ours, others) for ours, others in both]
    losses = [
        F.cross_entropy(rows.masked_fill(same, -math.inf), targets, reduction="sum")
        for rows in logits
    ]
    return 0.5 * torch.stack(losses).sum() * group.world / len(images)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Products of unit vectors (A, D) and (B, D), (A, B), in float32 under autocast, too."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().T


def soft_cross_entropy(logits: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy to rows of non-negative weights; rows without any are left out."""
    total = weights.sum(dim=1)
    known = total > 0
    targets = weights[known] / total[known, None]
    return -(targets * logits[known].log_softmax(dim=1)).sum(dim=1).sum() / known.sum().clamp(min=1)


def encode_texts(encoder: TextEncoder, tokens: Tensor) -> Tensor:
    """Encode (N, L) tokens to (N, D), short rows with short ones so that little is padding."""
    order = (tokens != 0).sum(dim=1).argsort()
    parts = [_trim(tokens[rows]) for rows in torch.split(order, _TEXTS_AT_ONCE)]
    features = torch.cat([encoder(part) for part in parts])
    return features[order.argsort()]


def lock_image_tower(model: OpenClip, *, locked: bool) -> None:
    """Freeze the image tower but its projection, which belongs to the shared space, or free it."""
    for name, parameter in model.visual.named_parameters():
        parameter.requires_grad_(name == "proj" or not locked)


class Towers(nn.Module):
    """Both towers and the logit scale of a model, in one call; they share the model's weights."""

    def __init__(self, model: OpenClip) -> None:
        super().__init__()
        self.visual: nn.Module = model.visual
        self.text = TextEncoder(model).to(_device(model))
        self.logit_scale: nn.Parameter = model.logit_scale

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images and texts.

        Args:
            pixels: (B, 3, S, S), normalised.
            tokens: (T, L) int64.

        Returns:
            image features (B, D) and text features (T, D), L2-normalised, and the factor of their
            cosines, a scalar.
        """
        image_features = F.normalize(self.visual(pixels).float(), dim=-1)
        return image_features, encode_texts(self.text, tokens), self.logit_scale.exp()


class ContrastiveObjective:
    """Image-text contrast inside the batch of all processes (an `Objective` of the training loop).

    Args:
        clip: the model to train, on its device.
        pairs: the data.
        settings: settings of the method.
        seed: seed of the order of the data.
        group: the processes; each takes its part of a batch of `batch_size` pairs for each.
    """

    def __init__(
        self,
        clip: ClipModel,
        pairs: Pairs,
        settings: ContrastiveSettings,
        *,
        seed: int,
        group: Group = SINGLE,
    ) -> None:
        self.model: OpenClip = clip.model
        self.pairs, self.settings, self.group = pairs, settings, group
        size, rank, world = settings.batch_size, group.rank, group.world
        self._stream = Stream(len(pairs), seed=seed, size=size, rank=rank, world=world)
        self.tokenizer: Tokenizer = clip.tokenizer()
        self.mode = str(clip.config["preprocess_cfg"]["resize_mode"])
        self.size: int = clip.model.visual.image_size[0]
        self._normalise = Normalise(clip)
        self._names: list[str] = []
        lock_image_tower(clip.model, locked=settings.lock_image)
        self.towers = group.wrap(Towers(clip.model))

    def groups(self) -> list[ParameterGroup]:
        """What the optimizer updates."""
        return parameter_groups(
            self.model.named_parameters(),
            weight_decay=self.settings.weight_decay,
            layer_decay=self.settings.layer_decay,
        )

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """The contrastive loss of one batch."""
        own, rank, world = self.settings.batch_size, self.group.rank, self.group.world
        indices = [index for _, index in self._stream.places(step)]
        rngs = rng.spawn(own * world)[rank * own : (rank + 1) * own]
        images, captions, items = self._batch(indices, rngs)
        device = _device(self.model)
        tokens = torch.from_numpy(self.tokenizer(captions)).to(device)
        features = self.towers(images, tokens)
        return {"loss": shared_contrastive_loss(*features, items=items, group=self.group)}

    def after_step(self) -> None:
        """Bound the logit scale."""
        self.model.logit_scale.data.clamp_(0.0, MAX_LOG_SCALE)

    def batch_names(self) -> Sequence[str]:
        """Images of the last batch in this process."""
        return self._names

    def no_sync(self) -> AbstractContextManager[None]:
        """Inside, gradients are added up in this process only."""
        return keeps_local(self.towers)

    def _batch(
        self, indices: Sequence[int], rngs: Sequence[np.random.Generator]
    ) -> tuple[Tensor, list[str], Tensor]:
        """Crops, normalised (B, 3, S, S), a caption each, and the numbers of their images (B,).

        Unreadable images are left out.
        """
        crops, captions, items = [], [], []
        for index, rng in zip(indices, rngs, strict=True):
            image = self.pairs.image(index)
            if image is None:
                continue
            choices = self.pairs.captions[index]
            captions.append(choices[int(rng.integers(len(choices)))])
            scale = self.settings.crop_scale
            crops.append(crop(image, rng, size=self.size, scale=scale, mode=self.mode))
            items.append(index)
        self._names = [self.pairs.names[index] for index in items]
        if len(crops) < 2:
            raise TrainingError(
                f"Hardly any image can be decoded ({len(self.pairs.broken)} failed, such as "
                f"{next(iter(self.pairs.broken))}); check the image files."
            )
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        return self._normalise(pixels), captions, torch.tensor(items, device=_device(self.model))


def _trim(tokens: Tensor) -> Tensor:
    """Cut columns that hold padding only."""
    return tokens[:, : int((tokens != 0).sum(dim=1).max())]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device

"""Contrastive training of a CLIP model on image-text pairs.

B images, T texts, D embedding width, S side of a training crop
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.text import OpenClip, TextEncoder
from atas_deploy.core.errors import ConfigError, TrainingError
from atas_deploy.core.hf_tokenizer import Tokenizer
from atas_deploy.training.loop import Losses
from atas_deploy.training.pairs import Pairs, crop
from atas_deploy.training.schedule import ParameterGroup, parameter_groups

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


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveSettings:
    """Settings of the method.

    Attributes:
        batch_size: image-text pairs a step.
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
        if not 0 < self.crop_scale <= 1:
            raise ConfigError(f"The crop scale is {self.crop_scale}; give a number in (0, 1].")


class ContrastiveObjective:
    """Image-text contrast inside a batch (an `Objective` of the training loop).

    Args:
        clip: the model to train, on its device.
        pairs: the data.
        settings: settings of the method.
        seed: seed of the order of the data.
    """

    def __init__(
        self, clip: ClipModel, pairs: Pairs, settings: ContrastiveSettings, *, seed: int
    ) -> None:
        if len(pairs) < settings.batch_size:
            raise ConfigError(
                f"The batch size is {settings.batch_size}, but there are only {len(pairs)} images "
                "with captions; give more images or a smaller --batch-size."
            )
        self.model: OpenClip = clip.model
        self.pairs, self.settings, self.seed = pairs, settings, seed
        self.tokenizer: Tokenizer = clip.tokenizer()
        self.text = TextEncoder(clip.model).to(_device(clip.model))
        self.mode = str(clip.config["preprocess_cfg"]["resize_mode"])
        self.size: int = clip.model.visual.image_size[0]
        self._mean = torch.tensor(clip.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(clip.std).view(1, 3, 1, 1)
        lock_image_tower(clip.model, locked=settings.lock_image)

    def groups(self) -> list[ParameterGroup]:
        """What the optimizer updates."""
        return parameter_groups(
            self.model.named_parameters(),
            weight_decay=self.settings.weight_decay,
            layer_decay=self.settings.layer_decay,
        )

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """The contrastive loss of one batch."""
        indices = batch_indices(
            step, count=len(self.pairs), batch_size=self.settings.batch_size, seed=self.seed
        )
        images, captions = self._batch(indices, rng)
        device = _device(self.model)
        tokens = torch.from_numpy(self.tokenizer(captions)).to(device)
        image_features = F.normalize(self.model.visual(images.to(device)).float(), dim=-1)
        text_features = encode_texts(self.text, tokens)
        scale = self.model.logit_scale.exp()
        return {"loss": contrastive_loss(image_features, text_features, scale)}

    def after_step(self) -> None:
        """Bound the logit scale."""
        self.model.logit_scale.data.clamp_(0.0, MAX_LOG_SCALE)

    def _batch(self, indices: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Crops, normalised (B, 3, S, S), and a caption each; unreadable images are left out."""
        crops, captions = [], []
        for index in indices:
            image = self.pairs.image(index)
            choices = self.pairs.captions[index]
            caption = choices[int(rng.integers(len(choices)))]
            if image is None:
                continue
            scale = self.settings.crop_scale
            crops.append(crop(image, rng, size=self.size, scale=scale, mode=self.mode))
            captions.append(caption)
        if len(crops) < 2:
            raise TrainingError(
                f"Hardly any image can be decoded ({len(self.pairs.broken)} failed, such as "
                f"{next(iter(self.pairs.broken))}); check the image files."
            )
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255.0
        return (pixels - self._mean) / self._std, captions


def batch_indices(step: int, *, count: int, batch_size: int, seed: int) -> list[int]:
    """Which items a step uses: epochs are shuffled anew, a last partial batch is dropped.

    A function of the step alone, so that a resumed run sees the same data.
    """
    per_epoch = count // batch_size
    epoch, batch = divmod(step, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return [int(i) for i in order[batch * batch_size : (batch + 1) * batch_size]]


def count_steps(*, count: int, batch_size: int, epochs: float) -> int:
    """Steps of a number of epochs, at least one."""
    return max(1, round(epochs * (count // batch_size)))


def _trim(tokens: Tensor) -> Tensor:
    """Cut columns that hold padding only."""
    return tokens[:, : int((tokens != 0).sum(dim=1).max())]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device

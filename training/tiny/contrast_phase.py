"""Second phase: the text tower is locked, the image tower learns from captions.

Class tokens find the captions of their images, and patches pooled by their fit to a noun of the
captions tell it from all other nouns. Nothing is distilled: this is the base that ATAS starts from.

A images of a step, n x n patches, V width of the tower, D embedding width
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.readouts import check_readout
from atas_deploy.training.contrastive import cosines
from atas_deploy.training.objective import LocalObjective, Losses
from atas_deploy.training.pairs import Pairs
from atas_deploy.training.schedule import ParameterGroup, parameter_groups
from atas_deploy.training.tiny.features import read_pixels

SIZES = ((24, 224), (12, 320))
"""Images of a step and their side in pixels; one of the two is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastPhaseSettings:
    """Weights of the losses.

    Attributes:
        readout: how patches are read.
        noun_weight: weight of the nouns' grounding; captions have weight 1.
        pooling_scale: sharpness of the pooling over patches that fit a noun.
        nouns: image-noun pairs of a step at most.
        layer_decay: factor of the learning rate from one block to the one below it.
        weight_decay: decay of matrices.
    """

    readout: str = "sclip"
    noun_weight: float = 0.5
    pooling_scale: float = 10.0
    nouns: int = 96
    layer_decay: float = 0.75
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        """Refuse unknown read-outs."""
        check_readout(self.readout)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastPhaseData:
    """What the phase learns from; M images.

    Attributes:
        pairs: the images.
        captions: (M, 5, D) embeddings of captions.
        nouns: (nouns, D) embeddings of the nouns of captions.
        mentions: (M, nouns) True where a caption mentions the noun.
    """

    pairs: Pairs
    captions: Tensor
    nouns: Tensor
    mentions: Tensor


class ContrastPhase(LocalObjective):
    """The objective of the second phase."""

    def __init__(
        self, clip: ClipModel, data: ContrastPhaseData, settings: ContrastPhaseSettings
    ) -> None:
        self.model, self.data, self.settings = clip.model, data, settings
        self.vit = DenseViT(clip.model.visual, readout=settings.readout)
        # All nouns alike: most images show people, but most patches do not.
        self._rarity = 1.0 / data.mentions.sum(dim=0).clamp(min=1).double().numpy()
        self.scale = float(clip.model.logit_scale.detach().exp())
        clip.model.requires_grad_(False)
        clip.model.visual.requires_grad_(True)

    def groups(self) -> list[ParameterGroup]:
        """What the optimizer updates."""
        return parameter_groups(
            self.model.named_parameters(),
            weight_decay=self.settings.weight_decay,
            layer_decay=self.settings.layer_decay,
        )

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """Captions and nouns of some images; the step makes no difference but by `rng`."""
        count, side = SIZES[int(rng.integers(len(SIZES)))]
        images = len(self.data.pairs)
        chosen = rng.choice(images, min(count, images), replace=False).tolist()
        dense, image = self.vit(self._pixels(chosen, side, rng))
        index = torch.tensor(chosen)
        captions = self._find_captions(image, index, rng)
        nouns = self._ground_nouns(dense.flatten(1, 2), index, rng)
        total = captions + self.settings.noun_weight * nouns
        return {"loss": total, "captions": captions.detach(), "nouns": nouns.detach()}

    def _pixels(self, chosen: Sequence[int], side: int, rng: np.random.Generator) -> Tensor:
        """Images (A, 3, side, side) in [-1, 1], some mirrored, each in another light."""
        pixels = torch.stack([read_pixels(self.data.pairs, index) for index in chosen])
        flipped = torch.from_numpy(rng.random(len(chosen)) < 0.5)[:, None, None, None]
        pixels = change_light(torch.where(flipped, pixels.flip(-1), pixels), rng)
        if pixels.shape[-1] == side:
            return pixels
        return F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)

    def _find_captions(self, image: Tensor, index: Tensor, rng: np.random.Generator) -> Tensor:
        """Each image finds a caption of its own among one of every image."""
        bank = self.data.captions
        pick = torch.from_numpy(rng.integers(0, bank.shape[1], len(bank)))
        logits = self.scale * cosines(image, bank[torch.arange(len(bank)), pick])
        return F.cross_entropy(logits, index)

    def _ground_nouns(self, patches: Tensor, index: Tensor, rng: np.random.Generator) -> Tensor:
        """Patches pooled by their fit to a noun of the image tell it from nouns of other images.

        Source: the compatibility of PACL (Mukhoti et al., CVPR 2023), with words for sentences.
        """
        mentions = self.data.mentions[index]
        image, noun = mentions.nonzero(as_tuple=True)
        odds = self._rarity[noun.numpy()]
        count = min(self.settings.nouns, len(noun))
        few = torch.from_numpy(rng.choice(len(noun), count, replace=False, p=odds / odds.sum()))
        image, noun = image[few], noun[few]
        patches = patches[image]
        fit = (patches * self.data.nouns[noun][:, None]).sum(dim=-1)
        weights = (self.settings.pooling_scale * fit).softmax(dim=1)
        pooled = F.normalize((weights[..., None] * patches).sum(dim=1), dim=-1)
        others = mentions[image].clone()
        others[torch.arange(len(noun)), noun] = False
        logits = self.scale * cosines(pooled, self.data.nouns)
        return F.cross_entropy(logits.masked_fill(others, -1e4), noun)


def change_light(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Random contrast and brightness of (A, 3, S, S) in [-1, 1]."""
    amounts = torch.from_numpy(rng.uniform(-0.1, 0.1, (2, len(pixels), 1, 1, 1))).float()
    return (pixels * (1 + amounts[0]) + amounts[1]).clamp(-1.0, 1.0)

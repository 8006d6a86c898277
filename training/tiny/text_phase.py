"""First phase: the image tower is locked, text tower and projections learn from its features.

Because the image features are cached, every text is contrasted with all training images.

M images, B images of a step, T texts, V width of the image tower, D embedding width, C classes
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.text import TextEncoder
from atas_deploy.training.contrastive import (
    MAX_LOG_SCALE,
    cosines,
    encode_texts,
    lock_image_tower,
    soft_cross_entropy,
)
from atas_deploy.training.loop import LocalObjective, Losses
from atas_deploy.training.schedule import ParameterGroup, parameter_groups
from atas_deploy.training.tiny.words import PROMPTS, Names


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPhaseSettings:
    """Sizes and weights of the parts of a step.

    Attributes:
        captions: captions a step.
        nouns: nouns of captions a step.
        names: names of ImageNet classes a step; each has a made-up feature of its class.
        relations: names of the CLIP tables a step.
        noun_weight: weight of the nouns' loss; captions have weight 1.
        name_weight: weight of the names' loss.
        relation_weight: weight of the relations' loss.
        relation_temperature: temperature of cosines between names.
        word_dropout: share of caption tokens left out.
        feature_noise: noise on image features, in standard deviations of each channel.
        weight_decay: decay of matrices.
    """

    captions: int = 192
    nouns: int = 64
    names: int = 128
    relations: int = 96
    noun_weight: float = 0.5
    name_weight: float = 0.5
    relation_weight: float = 1.0
    relation_temperature: float = 0.1
    word_dropout: float = 0.2
    feature_noise: float = 0.3
    weight_decay: float = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPhaseData:
    """What the phase learns from.

    Attributes:
        features: (views, M, V) class tokens in front of the projection, of each image and its
            mirror image.
        captions: captions of each image.
        nouns: nouns and the number of captions of each image that mention them, (nouns, M).
        names: ImageNet names and their classes, (names, C).
        tables: names and their CLIP embeddings.
        head_weight: (C, V) ImageNet head.
        head_bias: (C,).
    """

    features: Tensor
    captions: Sequence[Sequence[str]]
    nouns: Names
    names: Names
    tables: Names
    head_weight: Tensor
    head_bias: Tensor


class TextPhase(LocalObjective):
    """The objective of the first phase."""

    def __init__(
        self, clip: ClipModel, data: TextPhaseData, settings: TextPhaseSettings, *, seed: int
    ) -> None:
        self.model, self.tokenizer = clip.model, clip.tokenizer()
        self.text = TextEncoder(clip.model)
        self.data, self.settings, self.seed = data, settings, seed
        self.maker = FeatureMaker(data.features, data.head_weight, data.head_bias)
        self._mentions = torch.from_numpy(data.nouns.targets)
        self._classes = torch.from_numpy(data.names.targets)
        self._table = torch.from_numpy(data.tables.targets)
        lock_image_tower(clip.model, locked=True)

    def groups(self) -> list[ParameterGroup]:
        """What the optimizer updates."""
        return parameter_groups(
            self.model.named_parameters(), weight_decay=self.settings.weight_decay
        )

    def after_step(self) -> None:
        """Bound the logit scale."""
        self.model.logit_scale.data.clamp_(0.0, MAX_LOG_SCALE)

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """Captions, nouns, names and relations."""
        own = self.settings
        rows = batch_indices(
            step, count=len(self.data.captions), batch_size=own.captions, seed=self.seed
        )
        index = torch.tensor(rows)
        bank = self._project(self._view(rng))
        captions = self._captions(bank, index, rng)
        nouns = self._nouns(bank, index, rng)
        names = self._names(rng)
        relations = self._relations(rng)
        total = captions + own.noun_weight * nouns + own.name_weight * names
        total = total + own.relation_weight * relations
        return {
            "loss": total,
            "captions": captions.detach(),
            "nouns": nouns.detach(),
            "names": names.detach(),
            "relations": relations.detach(),
        }

    def _view(self, rng: np.random.Generator) -> Tensor:
        """Features of all images or of all mirror images, (M, V), with noise."""
        features = self.data.features[int(rng.integers(len(self.data.features)))]
        noise = torch.from_numpy(rng.standard_normal(tuple(features.shape), dtype=np.float32))
        return features + self.settings.feature_noise * features.std(dim=0) * noise

    def _captions(self, bank: Tensor, index: Tensor, rng: np.random.Generator) -> Tensor:
        """Each caption finds its image among all, each image its caption among the step's."""
        texts = [_pick(self.data.captions[i], rng) for i in index.tolist()]
        tokens = drop_words(self._tokens(texts), rng, share=self.settings.word_dropout)
        features = encode_texts(self.text, tokens).float()
        logits = self._scale() * cosines(features, bank)
        found = F.cross_entropy(logits, index)
        return 0.5 * (found + F.cross_entropy(logits[:, index].T, torch.arange(len(index))))

    def _nouns(self, bank: Tensor, index: Tensor, rng: np.random.Generator) -> Tensor:
        """Each noun finds its images among all, each image its nouns among the step's."""
        often = np.sqrt(self.data.nouns.targets.sum(axis=1))
        chosen = rng.choice(len(often), self.settings.nouns, replace=False, p=often / often.sum())
        features = self._prompt([self.data.nouns.names[i] for i in chosen], rng)
        logits = self._scale() * cosines(features, bank)
        mentions = self._mentions[chosen]
        images = soft_cross_entropy(logits[:, index].T, mentions[:, index].T)
        return 0.5 * (soft_cross_entropy(logits, mentions) + images)

    def _names(self, rng: np.random.Generator) -> Tensor:
        """Each name finds the features that the ImageNet head takes for its classes."""
        count = self.settings.names
        chosen = rng.choice(len(self.data.names.names), count, replace=False)
        members = self.data.names.targets[chosen]
        classes = [int(rng.choice(np.flatnonzero(row))) for row in members]
        extra = rng.integers(0, len(self.data.head_bias), count)
        made, beliefs = self.maker.make(np.concatenate([classes, extra]), rng)
        positives = cosines(beliefs, self._classes[chosen])
        positives = positives * (positives > 0.02)  # a long tail of small beliefs is noise
        features = self._prompt([self.data.names.names[i] for i in chosen], rng)
        logits = self._scale() * cosines(self._project(made), features)
        images = soft_cross_entropy(logits, positives)
        return 0.5 * (images + soft_cross_entropy(logits.T, positives.T))

    def _relations(self, rng: np.random.Generator) -> Tensor:
        """Similarities between names follow those of the CLIP tables (KL of rows)."""
        chosen = rng.choice(len(self._table), self.settings.relations, replace=False)
        features = self._prompt([self.data.tables.names[i] for i in chosen], rng)
        table = self._table[chosen]
        itself = torch.eye(len(chosen), dtype=torch.bool)
        heat = self.settings.relation_temperature
        wanted = (cosines(table, table) / heat).masked_fill(itself, -1e4).softmax(dim=1)
        got = (cosines(features, features) / heat).masked_fill(itself, -1e4).log_softmax(dim=1)
        return F.kl_div(got, wanted, reduction="batchmean")

    def _prompt(self, names: Sequence[str], rng: np.random.Generator) -> Tensor:
        """Encode names in random prompts, (T, D) float32."""
        texts = [_pick(PROMPTS, rng).format(name) for name in names]
        return encode_texts(self.text, self._tokens(texts)).float()

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(self.tokenizer(texts))

    def _project(self, features: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return F.normalize(features @ self.model.visual.proj, dim=-1)

    def _scale(self) -> Tensor:
        scale: Tensor = self.model.logit_scale.exp()
        return scale


class FeatureMaker:
    """Makes up image features of any ImageNet class from those of real images.

    A real feature is moved along S (w - mean w), S the covariance of real features and w the head's
    row of the class (the direction in which class means differ if classes are Gaussian), until the
    head prefers the class by a random margin; its norm stays.

    Args:
        features: (views, M, V) real features.
        weight: (C, V) the head.
        bias: (C,).
    """

    def __init__(self, features: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.features, self.weight, self.bias = features.flatten(0, 1), weight, bias
        rows = weight - weight.mean(dim=0)
        steps = rows @ torch.cov(self.features.T)
        self._steps = steps / (rows * steps).sum(dim=1, keepdim=True)  # one step adds one logit

    def make(
        self, classes: Sequence[int] | np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Features (T, V) of some classes, and the head's beliefs about them (T, C)."""
        wanted = torch.as_tensor(np.asarray(classes), dtype=torch.long)
        start = self.features[rng.integers(0, len(self.features), len(wanted))]
        logits = start @ self.weight.T + self.bias
        rows = torch.arange(len(wanted))
        rivals = logits.index_put((rows, wanted), torch.tensor(-torch.inf)).amax(dim=1)
        margin = torch.from_numpy(rng.uniform(1.0, 5.0, len(wanted))).float()
        length = (rivals + margin - logits[rows, wanted]).clamp(min=0)
        moved = start + length[:, None] * self._steps[wanted]
        moved = moved * (start.norm(dim=1) / moved.norm(dim=1))[:, None]
        return moved, (moved @ self.weight.T + self.bias).softmax(dim=1)


def drop_words(tokens: Tensor, rng: np.random.Generator, *, share: float) -> Tensor:
    """Leave out a random share of tokens, never the first nor the end token; (N, L) int64."""
    keep = torch.from_numpy(rng.random(tuple(tokens.shape)) >= share)
    keep[:, 0] = True
    keep[torch.arange(len(tokens)), tokens.argmax(dim=1)] = True
    keep &= tokens != 0
    kept = torch.zeros_like(tokens)
    rows, columns = keep.nonzero(as_tuple=True)
    kept[rows, keep.cumsum(dim=1)[rows, columns] - 1] = tokens[rows, columns]
    return kept


def batch_indices(step: int, *, count: int, batch_size: int, seed: int) -> list[int]:
    """Which items a step uses: epochs are shuffled anew, a last partial batch is dropped."""
    epoch, batch = divmod(step, count // batch_size)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return [int(i) for i in order[batch * batch_size : (batch + 1) * batch_size]]


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]

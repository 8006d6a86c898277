"""Second phase: the text tower is locked, the image tower learns to be dense.

The frozen start of the image tower is the teacher: its class token, projected by the first phase,
says what an image or a crop shows. The student's patches have to say it, too: pooled over the cells
of mosaics of crops, over random boxes of whole images, and (for nouns of the captions) over the
patches that fit the noun. Whole images are no cells: their mean patch would call the sky "person".

B canvases, g x g cells of one image each, A = B * g * g images, n x n patches of a cell,
V width of the tower, D embedding width, W words, C classes
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.readouts import READOUTS
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.contrastive import cosines
from atas_deploy.training.loop import Losses
from atas_deploy.training.pairs import Pairs
from atas_deploy.training.schedule import ParameterGroup, parameter_groups
from atas_deploy.training.tiny.features import GRID, Boxes, cut, read_pixels


@dataclass(frozen=True, slots=True)
class Layout:
    """Canvases of one step: `count` of them, `grid` x `grid` cells of `cell` pixels."""

    count: int
    grid: int
    cell: int


SINGLES = (Layout(12, 1, 224), Layout(6, 1, 320))
MOSAICS = (Layout(6, 2, 160), Layout(6, 3, 112))


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePhaseSettings:
    """Weights of the losses.

    Attributes:
        readouts: read-outs of the patches, one drawn a step.
        direction_weight: weight of 1 - cosine to the teacher in the shared space.
        space_weight: weight of 1 - cosine in front of the projection, standardised.
        words_weight: weight of the KL to the teacher's distribution over words.
        classes_weight: weight of the KL to the teacher's distribution over ImageNet classes.
        noun_weight: weight of the nouns' grounding.
        caption_weight: weight of the contrast of class tokens with captions.
        pooling_scale: sharpness of the pooling over patches that fit a noun.
        nouns: image-noun pairs of a step at most.
        layer_decay: factor of the learning rate from one block to the one below it.
        weight_decay: decay of matrices.
    """

    readouts: tuple[str, ...] = ("sclip",)
    direction_weight: float = 3.0
    space_weight: float = 1.0
    words_weight: float = 0.5
    classes_weight: float = 0.1
    noun_weight: float = 0.5
    caption_weight: float = 1.0
    pooling_scale: float = 10.0
    nouns: int = 96
    layer_decay: float = 0.75
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        """Refuse unknown read-outs."""
        unknown = set(self.readouts) - READOUTS.keys()
        if unknown or not self.readouts:
            raise ConfigError(f"Read-outs {self.readouts} are not among {', '.join(READOUTS)}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePhaseData:
    """What the phase learns from; M images.

    Attributes:
        pairs: the images.
        whole: (M, V) teacher's class tokens of images, in front of the projection.
        boxes: (M, K, 4) boxes in patches of a 14 x 14 grid.
        crops: (M, K, V) teacher's class tokens of the boxes.
        head_weight: (C, V) the teacher's ImageNet head.
        head_bias: (C,).
        captions: (M, 5, D) embeddings of captions.
        words: (W, D) embeddings of names of all kinds.
        nouns: (nouns, D) embeddings of the nouns of captions.
        mentions: (M, nouns) True where a caption mentions the noun.
    """

    pairs: Pairs
    whole: Tensor
    boxes: Boxes
    crops: Tensor
    head_weight: Tensor
    head_bias: Tensor
    captions: Tensor
    words: Tensor
    nouns: Tensor
    mentions: Tensor


@dataclass(frozen=True, slots=True)
class Views:
    """What the student sees of some whole images.

    Attributes:
        index: (A,) images.
        flipped: (A,) whether each is mirrored.
        patches: (A, n, n, V) in front of the projection.
        image: (A, V) class tokens in front of the projection.
    """

    index: Tensor
    flipped: Tensor
    patches: Tensor
    image: Tensor


class ImagePhase:
    """The objective of the second phase."""

    def __init__(
        self, clip: ClipModel, data: ImagePhaseData, settings: ImagePhaseSettings, *, seed: int
    ) -> None:
        self.model, self.data, self.settings, self.seed = clip.model, data, settings, seed
        self.vit = DenseViT(clip.model.visual)
        self._mean, self._deviation = data.whole.mean(dim=0), data.whole.std(dim=0)
        self._teacher_projection = clip.model.visual.proj.detach().clone()
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

    def after_step(self) -> None:
        """Nothing is bounded."""

    def losses(self, step: int, rng: np.random.Generator) -> Losses:
        """Single images and mosaics."""
        order = np.random.default_rng((self.seed, step // 64)).permutation(len(self.data.pairs))
        readout = self.settings.readouts[int(rng.integers(len(self.settings.readouts)))]
        losses: Losses = {"loss": torch.zeros(())}
        for layouts, losses_of in ((SINGLES, self._whole_images), (MOSAICS, self._crops)):
            layout = layouts[int(rng.integers(len(layouts)))]
            count = layout.count * layout.grid**2
            chosen = [int(i) for i in rng.choice(order, count, replace=False)]
            for name, value in losses_of(chosen, layout, readout, rng):
                losses["loss"] = losses["loss"] + self._weight(name) * value
                losses[name] = value.detach()
        return losses

    def _weight(self, name: str) -> float:
        own = self.settings
        kinds = {
            "space": own.space_weight,
            "direction": own.direction_weight,
            "words": own.words_weight,
            "classes": own.classes_weight,
            "nouns": own.noun_weight,
            "captions": own.caption_weight,
        }
        return kinds[name.rpartition("_")[2]]

    def _whole_images(
        self, chosen: Sequence[int], layout: Layout, readout: str, rng: np.random.Generator
    ) -> list[tuple[str, Tensor]]:
        """Losses on whole images: boxes, nouns and class tokens."""
        flipped = torch.from_numpy(rng.random(len(chosen)) < 0.5)
        pixels = torch.stack([read_pixels(self.data.pairs, index) for index in chosen])
        pixels = torch.where(flipped[:, None, None, None], pixels.flip(-1), pixels)
        patches, image = self._look(change_light(pixels, rng), layout, readout)
        views = Views(torch.tensor(chosen), flipped, patches, image)
        pooled = pool_boxes(patches, self.data.boxes[views.index], flipped)
        found = self._imitate(pooled, self.data.crops[views.index].flatten(0, 1), "box")
        found += self._imitate(image, self.data.whole[views.index], "class_token")
        found.append(("nouns", self._ground_nouns(views, rng)))
        found.append(("captions", self._find_captions(views, rng)))
        return found

    def _crops(
        self, chosen: Sequence[int], layout: Layout, readout: str, rng: np.random.Generator
    ) -> list[tuple[str, Tensor]]:
        """Losses on mosaics: the mean patch of a cell imitates the class token of its crop."""
        index = torch.tensor(chosen)
        which = torch.from_numpy(rng.integers(0, self.data.boxes.shape[1], len(chosen)))
        boxes = self.data.boxes[index, which]
        pixels = [
            cut(read_pixels(self.data.pairs, i), box) for i, box in zip(chosen, boxes, strict=True)
        ]
        patches, _ = self._look(change_light(torch.stack(pixels), rng), layout, readout)
        return self._imitate(patches.mean(dim=(1, 2)), self.data.crops[index, which], "cell")

    def _look(self, pixels: Tensor, layout: Layout, readout: str) -> tuple[Tensor, Tensor]:
        """Run the student over images (A, 3, S, S) in a layout.

        Returns:
            patches of the images (A, n, n, V), and class tokens of the canvases (B, V), both in
            front of the projection.
        """
        tokens, grid = self.vit.embed(arrange(pixels, layout))
        tokens = self.vit.trunk(tokens, grid)
        patches, class_token = self.vit.last_block(tokens, grid, readout=readout)
        patches = self._norm(patches).reshape(layout.count, *grid, -1)
        return split_cells(patches, layout.grid), self._norm(class_token[:, 0])

    def _norm(self, tokens: Tensor) -> Tensor:
        """The final norm, in float32."""
        with torch.autocast(tokens.device.type, enabled=False):
            normed: Tensor = self.vit.visual.ln_post(tokens.float())
        return normed

    def _project(self, tokens: Tensor) -> Tensor:
        """Projection to the shared space, unit length, in float32."""
        with torch.autocast(tokens.device.type, enabled=False):
            return F.normalize(tokens @ self.vit.visual.proj, dim=-1)

    def _find_captions(self, views: Views, rng: np.random.Generator) -> Tensor:
        """Each image finds a caption of its own among one of every image."""
        pick = torch.from_numpy(rng.integers(0, self.data.captions.shape[1], len(self.data.whole)))
        bank = self.data.captions[torch.arange(len(pick)), pick]
        logits = self.scale * cosines(self._project(views.image), bank)
        return F.cross_entropy(logits, views.index)

    def _imitate(self, student: Tensor, teacher: Tensor, what: str) -> list[tuple[str, Tensor]]:
        """Distances of features (A, V) to the teacher's, in four ways."""
        space = cosine_distance(self._standardise(student), self._standardise(teacher))
        words = self.data.words
        with torch.no_grad():
            wanted = F.normalize(teacher @ self._teacher_projection, dim=-1)
            wanted_words = self.scale * cosines(wanted, words)
            wanted_classes = self._classify(teacher)
        got = self._project(student)
        got_words = self.scale * cosines(got, words)
        return [
            (f"{what}_space", space),
            (f"{what}_direction", cosine_distance(got, wanted)),
            (f"{what}_words", divergence(got_words, wanted_words)),
            (f"{what}_classes", divergence(self._classify(student), wanted_classes)),
        ]

    def _standardise(self, features: Tensor) -> Tensor:
        """Centre and scale each channel as the teacher's features of whole images need it.

        All directions of the feature space count alike then, not only those that tell the training
        images apart: what the images do not show has to survive, too.
        """
        return F.normalize((features - self._mean) / self._deviation, dim=-1)

    def _classify(self, features: Tensor) -> Tensor:
        """Logits of the teacher's ImageNet head, (A, C)."""
        with torch.autocast(features.device.type, enabled=False):
            return features @ self.data.head_weight.T + self.data.head_bias

    def _ground_nouns(self, views: Views, rng: np.random.Generator) -> Tensor:
        """Patches pooled by their fit to a noun of the image tell it from nouns of other images.

        Source: the compatibility of PACL (Mukhoti et al., CVPR 2023), with words for sentences.
        """
        mentions = self.data.mentions[views.index]
        image, noun = mentions.nonzero(as_tuple=True)
        odds = self._rarity[noun.numpy()]
        count = min(self.settings.nouns, len(noun))
        few = torch.from_numpy(rng.choice(len(noun), count, replace=False, p=odds / odds.sum()))
        image, noun = image[few], noun[few]
        patches = self._project(views.patches.flatten(1, 2))[image]
        fit = (patches * self.data.nouns[noun][:, None]).sum(dim=-1)
        weights = (self.settings.pooling_scale * fit).softmax(dim=1)
        pooled = F.normalize((weights[..., None] * patches).sum(dim=1), dim=-1)
        others = mentions[image].clone()
        others[torch.arange(len(noun)), noun] = False
        logits = self.scale * cosines(pooled, self.data.nouns)
        return F.cross_entropy(logits.masked_fill(others, -1e4), noun)


def arrange(pixels: Tensor, layout: Layout) -> Tensor:
    """Images (A, 3, S, S) to canvases (B, 3, g * cell, g * cell), row by row."""
    cell, grid = layout.cell, layout.grid
    if pixels.shape[-1] != cell:
        pixels = F.interpolate(pixels, size=(cell, cell), mode="bilinear", antialias=True)
    tiles = pixels.reshape(layout.count, grid, grid, 3, cell, cell)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(layout.count, 3, grid * cell, grid * cell)


def split_cells(patches: Tensor, grid: int) -> Tensor:
    """Patches (B, g * n, g * n, D) of canvases to those of cells, (B * g * g, n, n, D)."""
    count, side, _, width = patches.shape
    n = side // grid
    tiles = patches.reshape(count, grid, n, grid, n, width)
    return tiles.transpose(2, 3).flatten(0, 2)


def pool_boxes(patches: Tensor, boxes: Boxes, flipped: Tensor) -> Tensor:
    """Mean patch of each box.

    Args:
        patches: (A, n, n, V).
        boxes: (A, K, 4) top, left, bottom, right on a 14 x 14 grid of the image as it is.
        flipped: (A,) whether the patches show the mirror image.

    Returns:
        (A * K, V).
    """
    boxes = boxes.copy()
    mirrored = flipped.numpy()
    boxes[mirrored, :, 1], boxes[mirrored, :, 3] = (
        GRID - boxes[mirrored, :, 3],
        GRID - boxes[mirrored, :, 1],
    )
    places = np.rint(boxes * (patches.shape[1] / GRID)).astype(int)
    means = [
        image[top:bottom, left:right].mean(dim=(0, 1))
        for image, row in zip(patches, places, strict=True)
        for top, left, bottom, right in row
    ]
    return torch.stack(means)


def change_light(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Random contrast and brightness of (A, 3, S, S) in [-1, 1]."""
    amounts = torch.from_numpy(rng.uniform(-0.1, 0.1, (2, len(pixels), 1, 1, 1))).float()
    return (pixels * (1 + amounts[0]) + amounts[1]).clamp(-1.0, 1.0)


def divergence(got: Tensor, wanted: Tensor) -> Tensor:
    """Mean KL between softmax distributions given by logits (A, W)."""
    return F.kl_div(got.log_softmax(dim=1), wanted.softmax(dim=1), reduction="batchmean")


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean of 1 - cosine of unit vectors (A, D)."""
    return (1.0 - (a * b).sum(dim=1)).mean()

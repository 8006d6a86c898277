"""Semantic coherence: are patches of one class more alike than patches of different classes?

Two patches have the cosine of their dense features, and are of one class or not; the area under the
ROC curve of the first as a test of the second is 0.5 for features that know nothing and 1 for those
that tell all classes apart. No words are needed.

- auc: all pairs within a picture, pooled over pictures.
- image_auc: the same for each picture by itself, mean over those that have both kinds of pairs.
- across_auc: pairs across pictures: patches drawn from each against those drawn from a bank, the
  first pictures in a seeded order, which are left out themselves. Its interval is over the pictures
  compared; the bank stays as it is.

A patch has the label that at least half of its labelled pixels have, and does not count if there is
none, or if that is 0, the background.

Source: Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive
Learning", CVPR 2023, which compares encoders so; which pairs it drew, we do not know.

h w grid, D width, M patches, B bins
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.class_spec import MAX_CLASSES
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.metrics import auc_of_histograms, ratio
from atas_deploy.evaluation.dense_facts import encoder_facts
from atas_deploy.evaluation.facts import model_facts
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.evaluation.truth import VOID, Example, LabelMap, Truth
from atas_deploy.runtime.encode import ImageEncoder
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.windows import PixelWindows

BINS = 1_000
"""Of cosines, of equal steps of sqrt((1 - cosine) / 2), the sine of half the angle: finest near 1,
where features of one model crowd. Where cosines above 0 spread by 0.02 or more, areas are exact to
0.0001."""

_AT_ONCE = 4_000_000  # pairs in memory
_ROUNDING = 1e-6  # of areas in pixels

Features = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Patches that have a class.

    Attributes:
        features: (M, D) float32, L2-normalised.
        labels: (M,) classes.
    """

    features: Features
    labels: IntArray


class CoherenceTask:
    """Coherence of dense features, see the module.

    Args:
        encoders: the model.
        encoder: its encoder of dense features, without windows or with windows merged as features.
        truth: the pictures.
        bank: most pictures in the bank; never more than half of them.
        drawn: most patches drawn from a picture for pairs across pictures.
        seed: of what is drawn.

    Raises:
        ConfigError: the windows are merged as pixels, or a number is out of range.
    """

    name, unit = "coherence", "image"

    def __init__(
        self,
        encoders: Encoders,
        encoder: ImageEncoder,
        truth: Truth,
        *,
        bank: int = 64,
        drawn: int = 64,
        seed: int = 0,
    ) -> None:
        if isinstance(encoder.windows, PixelWindows):
            raise ConfigError(
                "Windows that are merged as pixels have no features of a patch; merge as features."
            )
        if bank < 0 or drawn < 1:
            raise ConfigError(f"Got a bank of {bank} and {drawn} drawn; expected 0 or more and 1.")
        self._encoders, self._encoder, self._truth = encoders, encoder, truth
        self._bank, self._drawn, self._seed = min(bank, len(truth) // 2), drawn, seed
        self.total: int | None = len(truth)

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Count the pairs of each picture that has labelled patches, the bank's pictures first."""
        examples, bank = self._order(), list[Patches]()
        generator = np.random.default_rng(self._seed)
        with closing(self._encoder.stream(example.image for example in examples)) as pictures:
            for at, (example, picture) in enumerate(zip(examples, pictures, strict=True)):
                assert picture is not None  # none is held
                labels = example.labels(picture.size, classes=MAX_CLASSES)
                patches = labelled_patches(picture.dense, labels)
                drawn = _draw(patches, self._drawn, generator)
                across = np.zeros((2, BINS))
                if at < self._bank:
                    bank.append(drawn)
                elif bank:
                    across = count_pairs(drawn, _joined(bank))
                if len(patches.labels):
                    yield Row(example.name, _counts(count_pairs(patches), across))
                advance()

    def measure(self, totals: Counts) -> dict[str, FloatArray]:
        """Scores, see the module's `measure`."""
        return measure(totals)

    def facts(self) -> dict[str, Any]:
        """Model, settings and data."""
        return {
            **model_facts(self._encoders.bundle, self._encoders.backend),
            **encoder_facts(self._encoder),
            **self._truth.facts(),
            "bins": BINS,
            "bank": self._bank,
            "patches_an_image": self._drawn,
            "drawn_with_seed": self._seed,
        }

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """Nothing: pairs have two classes."""
        return []

    def _order(self) -> list[Example]:
        """The pictures of the bank, drawn at random, then the others in their order."""
        examples = list(self._truth)
        generator = np.random.default_rng(self._seed)
        chosen = generator.permutation(len(examples))[: self._bank].tolist()
        others = np.setdiff1d(np.arange(len(examples)), chosen).tolist()
        return [examples[i] for i in (*chosen, *others)]


def measure(totals: Counts) -> dict[str, FloatArray]:
    """Areas under the ROC curve, see the module.

    Args:
        totals: (..., B) pairs by cosine: "same", "other", "across_same", "across_other"; and
            "image" (..., 2): sum of the pictures' own areas, and how many have one.
    """
    return {
        "auc": auc_of_histograms(totals["same"], totals["other"]),
        "image_auc": ratio(totals["image"][..., 0], totals["image"][..., 1]),
        "across_auc": auc_of_histograms(totals["across_same"], totals["across_other"]),
    }


def labelled_patches(dense: Features, labels: LabelMap) -> Patches:
    """The patches of a picture that have a class.

    Args:
        dense: (h, w, D).
        labels: (H, W) of the picture, which the grid covers.
    """
    found = patch_labels(labels, dense.shape[:2]).ravel()
    counted = (found != 0) & (found != VOID)
    features = dense.reshape(len(found), -1)[counted]
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return Patches(features / np.maximum(lengths, np.finfo(np.float32).tiny), found[counted])


def patch_labels(labels: LabelMap, grid: tuple[int, ...]) -> LabelMap:
    """The class of each cell of a grid over a label map.

    Args:
        labels: (H, W) with `VOID` for pixels without label.
        grid: (h, w); pixels that lie in several cells count in each by their share.

    Returns:
        (h, w): the label of at least half of a cell's labelled pixels, the lower one of two equal
        halves; else `VOID`.
    """
    down, across = (_shares(n, cells) for n, cells in zip(labels.shape, grid, strict=True))
    present = np.setdiff1d(labels, [VOID])
    best, most = np.full(grid, VOID, labels.dtype), np.zeros(grid)
    labelled = down @ (labels != VOID) @ across.T
    for label in present:
        area = down @ (labels == label) @ across.T
        best = np.where(area > most + _ROUNDING, label, best)
        most = np.maximum(most, area)
    is_known = (labelled > 0) & (most >= labelled / 2 - _ROUNDING)
    return np.where(is_known, best, VOID).astype(labels.dtype)


def count_pairs(a: Patches, b: Patches | None = None) -> FloatArray:
    """Histograms of the cosines of pairs.

    Args:
        a: M patches.
        b: others; None = all pairs within `a`, each once.

    Returns:
        (2, B): pairs of one class, pairs of different classes; bins from cosine -1 to 1.
    """
    other = a if b is None else b
    counts = np.zeros(2 * BINS, np.int64)
    step = max(1, _AT_ONCE // max(1, len(other.labels)))
    for start in range(0, len(a.labels), step):
        some = slice(start, start + step)
        halves = np.clip((1 - a.features[some] @ other.features.T) / 2, 0, 1)
        bins = np.minimum((1 - np.sqrt(halves)) * BINS, BINS - 1).astype(np.intp)
        bins += BINS * (a.labels[some, None] != other.labels)
        if b is None:  # pairs of a patch with itself or an earlier one are left out
            bins = bins[np.triu(np.ones(bins.shape, bool), k=start + 1)]
        counts += np.bincount(bins.ravel(), minlength=2 * BINS)
    return counts.reshape(2, BINS).astype(float)


def _counts(within: FloatArray, across: FloatArray) -> dict[str, npt.ArrayLike]:
    """What a picture adds."""
    own = auc_of_histograms(within[0], within[1])
    return {
        "same": within[0],
        "other": within[1],
        "across_same": across[0],
        "across_other": across[1],
        "image": [0, 0] if np.isnan(own) else [own, 1],
    }


def _draw(patches: Patches, most: int, generator: np.random.Generator) -> Patches:
    chosen = generator.permutation(len(patches.labels))[:most]
    return Patches(patches.features[chosen], patches.labels[chosen])


def _joined(bank: list[Patches]) -> Patches:
    return Patches(
        np.concatenate([patches.features for patches in bank]),
        np.concatenate([patches.labels for patches in bank]),
    )


def _shares(pixels: int, cells: int) -> FloatArray:
    """Length of each pixel in each cell, in pixels: (cells, pixels)."""
    ends = np.linspace(0, pixels, cells + 1)[:, None]
    places = np.arange(pixels)
    low, high = np.maximum(ends[:-1], places), np.minimum(ends[1:], places + 1)
    return np.asarray(np.maximum(high - low, 0.0))

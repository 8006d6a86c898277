"""Semantic coherence: are patches of one class more alike than patches of different classes?

Two patches have the cosine of their dense features, and are of one class or not; the area under the
ROC curve of the first as a test of the second is 0.5 for features that know nothing and 1 for those
that tell all classes apart. No words are needed.

- auc: all pairs within a picture, pooled over pictures.
- image_auc: the same for each picture by itself, mean over those that have both kinds of pairs.
- across_auc: pairs across pictures: pictures in a seeded order make small groups, and patches drawn
  from each are compared with those of the others in its group. Groups have no picture in common, so
  that the bootstrap, in which a group counts as one picture does, is sound. (With all others
  compared with one set of pictures, an interval would leave out that the set was drawn, too.)

Which patches count, and as what, `atas_deploy.evaluation.patches` says.

Source: Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive
Learning", CVPR 2023, which compares encoders so; which pairs it drew, we do not know.

B bins, G pictures in a group
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.class_spec import MAX_CLASSES
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.metrics import auc_of_histograms, ratio
from atas_deploy.evaluation.facts import encoder_facts, model_facts
from atas_deploy.evaluation.pairs import BINS, KEPT, count_pairs, count_pairs_across, thin
from atas_deploy.evaluation.patches import Patches, labelled_patches
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.evaluation.truth import Example, Truth
from atas_deploy.runtime.encode import ImageEncoder
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.windows import PixelWindows


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


class CoherenceTask:
    """Coherence of dense features, see the module.

    Args:
        encoders: the model.
        encoder: its encoder of dense features, without windows or with windows merged as features.
        truth: the pictures.
        group: pictures in a group, at most; there are two groups at least.
        drawn: most patches drawn from a picture for pairs across pictures.
        seed: of what is drawn.

    Raises:
        ConfigError: the windows are merged as pixels, or a number is out of range.
    """

    name, unit = "coherence", "image"
    measure = staticmethod(measure)

    def __init__(
        self,
        encoders: Encoders,
        encoder: ImageEncoder,
        truth: Truth,
        *,
        group: int = 4,
        drawn: int = 64,
        seed: int = 0,
    ) -> None:
        if isinstance(encoder.windows, PixelWindows):
            raise ConfigError(
                "Windows that are merged as pixels have no features of a patch; merge as features."
            )
        if group < 2 or drawn < 1:
            raise ConfigError(f"Got groups of {group} and {drawn} drawn; expected 2 and 1 or more.")
        self._encoders, self._encoder, self._truth = encoders, encoder, truth
        self._group, self._drawn, self._seed = min(group, max(1, len(truth) // 2)), drawn, seed
        self.total: int | None = len(truth)

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Count the pairs of each picture; those of a group are in the row of its last one.

        Raises:
            InputError: no patch has a class.
        """
        examples, group, found = self._order(), list[Patches](), 0
        generator = np.random.default_rng(self._seed)
        with closing(self._encoder.stream(example.image for example in examples)) as pictures:
            for at, (example, picture) in enumerate(zip(examples, pictures, strict=True), 1):
                assert picture is not None  # none is held
                labels = example.labels(picture.size, classes=MAX_CLASSES)
                patches = labelled_patches(picture.dense, labels)
                found += len(patches.labels)
                group.append(_draw(patches, self._drawn, generator))
                across = np.zeros((2, BINS))
                if at % self._group == 0 or at == len(examples):
                    across, group = count_pairs_across(group), []
                yield Row(example.name, _counts(count_pairs(patches), across))
                advance()
        if not found:
            raise InputError("There is nothing to measure: no patch has a label that counts.")

    def facts(self) -> dict[str, Any]:
        """Model, settings and data."""
        return {
            **model_facts(self._encoders.bundle, self._encoders.backend),
            **encoder_facts(self._encoder),
            **self._truth.facts(),
            "bins": BINS,
            "bins_of_a_row": KEPT,
            "group": self._group,
            "patches_an_image": self._drawn,
            "drawn_with_seed": self._seed,
        }

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """Nothing: pairs have two classes."""
        return []

    def _order(self) -> list[Example]:
        """The pictures in a random order."""
        examples = list(self._truth)
        generator = np.random.default_rng(self._seed)
        return [examples[i] for i in generator.permutation(len(examples)).tolist()]


def _counts(within: FloatArray, across: FloatArray) -> dict[str, npt.ArrayLike]:
    """What a picture adds."""
    own = auc_of_histograms(within[0], within[1])
    same, other = thin(within)
    across_same, across_other = thin(across)
    return {
        "same": same,
        "other": other,
        "across_same": across_same,
        "across_other": across_other,
        "image": [0, 0] if np.isnan(own) else [own, 1],
    }


def _draw(patches: Patches, most: int, generator: np.random.Generator) -> Patches:
    chosen = generator.permutation(len(patches.labels))[:most]
    return Patches(patches.features[chosen], patches.labels[chosen])

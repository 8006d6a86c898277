"""Region classification, CLIPSelf's protocol: are regions named right, and from which features?

Five kinds of regions are measured in one pass over each picture:

    boxes          things' boxes, RoIAlign of the dense features
    thing_masks    things' masks, mean of the dense features inside
    stuff_masks    the same for stuff
    crops          things' boxes cut out, through the class token
    both           geometric mean of the probabilities of boxes and crops

All categories compete for each region, each by its most similar word. Top-k accuracy is the mean
over the classes present of the share of their regions whose own class is among the k most similar;
equals count against, see `core.metrics.rank_among`. The order of cosines (of both: of their
weighted mean) is that of probabilities, whatever the logit scale, and is not lost where those round
to 0.

Regions count if their box has 8² to 1024² pixels, as in CLIPSelf's code, which cuts crops 1.5 times
as wide and high as the box, too. It differs in that crowds count there like any other region, and
that the box of stuff ends a pixel earlier.

Source: Wu et al., "CLIPSelf", ICLR 2024, section 4.1; its code, `COCOPanopticDataset`.

K regions, C classes, D embedding width
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.metrics import known_mean, rank_among, ratio
from atas_deploy.core.region import Region
from atas_deploy.evaluation.facts import encoder_facts, model_facts, template_facts
from atas_deploy.evaluation.region_data import LabelledPicture, RegionData
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.pipeline import ahead
from atas_deploy.runtime.regions import RegionClassifier

Embeddings = npt.NDArray[np.float32]

KINDS = ("boxes", "thing_masks", "stuff_masks", "crops", "both")
TOP = (1, 5)


def measure(totals: Counts) -> dict[str, FloatArray]:
    """Top-1 and Top-5 mean class accuracy of each kind, and Top-1 accuracy over all its regions.

    Args:
        totals: by "boxes_regions" (..., C) and "boxes_top1", "boxes_top5" (..., C), and so on.

    Returns:
        "boxes_top1", "boxes_top5" and "boxes_accuracy", (...) each, and so on.
    """
    kinds = [name.removesuffix("_regions") for name in totals if name.endswith("_regions")]
    scores: dict[str, FloatArray] = {}
    for kind in kinds:
        regions = totals[f"{kind}_regions"]
        for k in TOP:
            scores[f"{kind}_top{k}"] = known_mean(ratio(totals[f"{kind}_top{k}"], regions))
        scores[f"{kind}_accuracy"] = ratio(totals[f"{kind}_top1"].sum(-1), regions.sum(-1))
    return scores


class RegionsTask:
    """Top-1 and Top-5 mean class accuracy of regions, see the module.

    Args:
        classifier: names regions by the words of the data's categories, in their order, without
            background (`RegionData.words`).
        data: the labelled pictures.
        kinds: what to measure, of `KINDS`; None = all that the data have.

    Raises:
        ConfigError: there is no such kind, or the classifier has other classes than the data.
    """

    name, unit = "regions", "image"
    measure = staticmethod(measure)

    def __init__(
        self,
        classifier: RegionClassifier,
        data: RegionData,
        *,
        kinds: Sequence[str] | None = None,
    ) -> None:
        self.kinds = _check_kinds(kinds, data)
        self.classifier, self.data = classifier, data
        self.total: int | None = len(data)
        self._left_out: Counter[str] = Counter()
        vocabulary = classifier.vocabulary
        if len(vocabulary.names) != len(data.categories) or vocabulary.background:
            raise ConfigError(
                f"The classifier has {len(vocabulary.names)} classes and "
                f"{len(vocabulary.background)} background words for {len(data.categories)} "
                "categories; give it RegionData.words and no background."
            )

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Yield the regions and hits of each picture, by class.

        Raises:
            InputError: a picture or its annotations cannot be read, or no region counts.
        """
        self._left_out.clear()
        counted = 0.0
        with closing(ahead(iter(self.data))) as pictures:
            for picture in pictures:
                self._left_out.update(sized=picture.sized, crowd=picture.crowd)
                counts = self.count(picture)
                counted += sum(counts[f"{kind}_regions"].sum() for kind in self.kinds)
                yield Row(picture.name, counts)
                advance()
        if not counted:
            sized, crowd = self._left_out["sized"], self._left_out["crowd"]
            raise InputError(
                f"{self.data.path} has no region that counts ({', '.join(self.kinds)}) in "
                f"{len(self.data)} pictures: {sized} are left out because of their size, {crowd} "
                "as crowds; check it, or ask for other kinds of regions."
            )

    def facts(self) -> dict[str, Any]:
        """Model, words, data, settings, and what was left out."""
        classifier = self.classifier
        return {
            **model_facts(classifier.bundle, classifier.backend),
            **self.data.facts(),
            "regions_left_out": dict(self._left_out),
            "class_count": len(self.data.categories),
            "names_hash": classifier.vocabulary.hash,
            **template_facts(classifier.templates),
            **encoder_facts(classifier.encoder),
            "crop_size": classifier.embedder.size,
            "crop_scale": classifier.crop_scale,
            "crop_weight": classifier.crop_weight,
        }

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """For each class present: its regions, and accuracies by kind."""
        names = self.classifier.vocabulary.names
        return [
            _line(name, {key: sums[index] for key, sums in totals.items()}, self.kinds)
            for index, name in enumerate(names)
            if any(totals[f"{kind}_regions"][index] for kind in self.kinds)
        ]

    def count(self, picture: LabelledPicture) -> dict[str, FloatArray]:
        """Regions and hits of a picture by kind and class, see `count_hits`."""
        counts: dict[str, FloatArray] = {}
        embedded = self._embed(picture)
        for kind in self.kinds:
            regions = picture.stuff if kind == "stuff_masks" else picture.things
            if kind.endswith("masks"):
                regions = tuple(region for region in regions if region.rle is not None)
            truth = np.array([region.category for region in regions], np.intp)
            counts |= count_hits(kind, class_cosines(self.classifier, embedded[kind]), truth)
        return counts

    def _embed(self, picture: LabelledPicture) -> dict[str, Embeddings]:
        """Embeddings (K, D) of the regions of each kind; the encoder runs once."""
        boxes = [replace(region, rle=None) for region in picture.things]
        found: dict[str, Embeddings] = {}
        if {*self.kinds} - {"crops"}:
            encoded = self.classifier.encoder(picture.image)
            found["boxes"] = self.classifier.embed_dense(encoded, boxes)
            for kind, regions in (("thing_masks", picture.things), ("stuff_masks", picture.stuff)):
                if kind in self.kinds:
                    found[kind] = self._embed_masks(encoded, regions)
        if {"crops", "both"} & {*self.kinds}:
            found["crops"] = self.classifier.embed_crops(picture.image, boxes)
        if "both" in self.kinds:
            found["both"] = self.classifier.mix(found["boxes"], found["crops"])
        return found

    def _embed_masks(self, encoded: Encoded, regions: Sequence[Region]) -> Embeddings:
        masks = [region for region in regions if region.rle is not None]
        return self.classifier.embed_dense(encoded, masks)


def class_cosines(classifier: RegionClassifier, embeddings: Embeddings) -> Embeddings:
    """Cosine of each class's most similar word.

    Args:
        classifier: with words for every class, and without background.
        embeddings: (K, D) of its regions.

    Returns:
        (K, C).
    """
    starts = np.unique(classifier.vocabulary.query_class, return_index=True)[1]
    cosines = classifier.logits(embeddings) / np.float32(classifier.logit_scale)
    return np.asarray(np.maximum.reduceat(cosines, starts, axis=1))


def count_hits(kind: str, scores: Embeddings, truth: npt.NDArray[np.intp]) -> dict[str, FloatArray]:
    """Regions and hits by class.

    Args:
        kind: that the counts are named after.
        scores: (K, C), see `class_cosines`.
        truth: (K,) classes.

    Returns:
        "boxes_regions", "boxes_top1" and "boxes_top5" for the kind "boxes", (C,) each.
    """
    classes = scores.shape[1]
    rows = np.arange(len(truth))
    others = scores.copy()
    others[rows, truth] = -np.inf
    ranks = rank_among(scores[rows, truth], others)
    chosen = {f"{kind}_top{k}": truth[ranks < k] for k in TOP}
    return {
        name: np.bincount(labels, minlength=classes).astype(np.float64)
        for name, labels in {f"{kind}_regions": truth, **chosen}.items()
    }


def _line(name: str, sums: dict[str, FloatArray], kinds: Sequence[str]) -> dict[str, Any]:
    """A class in the table; NaN where it has no region of a kind."""
    regions = {kind: float(sums[f"{kind}_regions"]) for kind in kinds}
    line: dict[str, Any] = {"class": name, "regions": int(max(regions.values()))}
    for kind in kinds:
        for k in TOP:
            hits = float(sums[f"{kind}_top{k}"])
            line[f"{kind}_top{k}"] = hits / regions[kind] if regions[kind] else float("nan")
    return line


def _check_kinds(kinds: Sequence[str] | None, data: RegionData) -> tuple[str, ...]:
    """The kinds to measure, in the order of `KINDS`.

    Raises:
        ConfigError: one is unknown, or none is left.
    """
    if kinds is None:
        return tuple(kind for kind in KINDS if kind != "stuff_masks" or data.has_stuff)
    if not kinds or not {*kinds} <= {*KINDS}:
        raise ConfigError(f"Got the kinds {', '.join(kinds)}; expected some of {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in kinds)

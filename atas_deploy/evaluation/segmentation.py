"""Segmentation: mIoU and accuracies, among all classes and among those present in each picture.

Pixels are summed over all pictures before anything is divided, as mmsegmentation's IoUMetric does:

- miou: mean intersection over union; a class neither true nor predicted anywhere has none.
- miou_in_truth: the same over the classes that occur in the truth only.
- macc: mean over the classes in the truth of the share of their pixels that is found.
- aacc: share of all pixels that are right.

Background counts as a class, with label 0 in the truth, if results can be background: if it has
words, or there is a threshold or denoising. Else pixels of label 0 do not count.

Each has a twin "present_": only the classes that occur in a picture compete in it, beside the
background's words. Where it has none, every pixel gets one of the classes: label 0 does not count,
neither threshold nor denoising applies, and a picture of one class is that class.

C classes, K of which count: the C, or with background C + 1
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.metrics import (
    Areas,
    class_accuracy,
    count_areas,
    iou,
    known_mean,
    pixel_accuracy,
)
from atas_deploy.evaluation.facts import segmenter_facts
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.evaluation.truth import VOID, Truth, check_count
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.segment import Segmenter

LabelMap = npt.NDArray[np.integer]
KINDS = {"all": "", "present": "present_"}
"""Which classes compete: prefix of the scores."""


def measure(totals: Counts) -> dict[str, FloatArray]:
    """Scores of sums over pictures, see the module.

    Args:
        totals: (..., K) pixels: "hits_", "predicted_" and "truth_" of "all" and of "present".

    Source: mmsegmentation, IoUMetric; Everingham et al., "The PASCAL Visual Object Classes
        Challenge", IJCV 2010 (IoU).
    """
    scores = {}
    for kind, prefix in KINDS.items():
        areas = _areas(totals, kind)
        each = iou(areas)
        scores[f"{prefix}miou"] = known_mean(each)
        scores[f"{prefix}miou_in_truth"] = known_mean(np.where(areas.truth > 0, each, np.nan))
        scores[f"{prefix}macc"] = known_mean(class_accuracy(areas))
        scores[f"{prefix}aacc"] = pixel_accuracy(areas)
    return scores


class SegmentationTask:
    """Segmentation of pictures with label maps, see the module.

    Args:
        segmenter: with the classes and all settings; its class list is changed from picture to
            picture.
        truth: the pictures, whose labels mean the segmenter's classes.

    Raises:
        ConfigError: there are more or fewer classes than the data have.
    """

    name, unit = "segmentation", "image"
    measure = staticmethod(measure)

    def __init__(self, segmenter: Segmenter, truth: Truth) -> None:
        self._segmenter, self._truth = segmenter, truth
        self._vocabulary = segmenter.vocabulary
        self._facts = segmenter_facts(segmenter)
        check_count(truth, len(self._vocabulary.classes))
        protocol = segmenter.protocol
        finds_background = self._vocabulary.background or protocol.threshold or protocol.denoise
        self._first = 0 if finds_background and truth.has_background else 1
        self._void_pictures = 0  # of the last run
        self.total: int | None = len(truth)

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Count the pixels of each picture in which one counts."""
        self._void_pictures = 0
        paths = (example.image for example in self._truth)
        with closing(self._segmenter.encoder.stream(paths)) as pictures:
            for example, picture in zip(self._truth, pictures, strict=True):
                assert picture is not None  # none is held
                classes = len(self._vocabulary.classes)
                truth = self._counted(example.labels(picture.size, classes=classes))
                if (truth == VOID).all():
                    self._void_pictures += 1
                else:
                    yield Row(example.name, self._count(truth, picture))
                advance()

    def facts(self) -> dict[str, Any]:
        """Model, words, settings, and what the labels mean."""
        return {
            **self._facts,
            **self._truth.facts(),
            "background_counts": self._first == 0,
            "pictures_without_counted_pixels": self._void_pictures,
        }

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """IoU and accuracy of each class, its true pixels and the pictures that have it."""
        areas = {kind: _areas(totals, kind) for kind in KINDS}
        scores = {
            f"{prefix}{name}": score(areas[kind])
            for kind, prefix in KINDS.items()
            for name, score in (("iou", iou), ("accuracy", class_accuracy))
        }
        names = ("background", *self._vocabulary.names)[self._first :]
        return [
            {
                "class": name,
                **{key: float(values[i]) for key, values in scores.items()},
                "pixels": int(totals["truth_all"][i]),
                "images": int(totals["images"][i]),
            }
            for i, name in enumerate(names)
        ]

    def _counted(self, truth: LabelMap) -> LabelMap:
        """The labels with 0 as void where background is no class."""
        return _without_background(truth) if self._first else truth

    def _count(self, truth: LabelMap, picture: Encoded) -> dict[str, npt.ArrayLike]:
        """What a picture adds, (K,) each."""
        classes = len(self._vocabulary.classes)
        found = {
            "all": (truth, self._label(picture, np.arange(1, classes + 1))),
            "present": self._among_present(truth, picture),
        }
        counts: dict[str, npt.ArrayLike] = {}
        for kind, pair in found.items():
            areas = count_areas(*pair, classes=classes + 1, void=VOID)
            counts[f"hits_{kind}"] = areas.hits[self._first :]
            counts[f"predicted_{kind}"] = areas.predicted[self._first :]
            counts[f"truth_{kind}"] = areas.truth[self._first :]
        return counts | {"images": np.asarray(counts["truth_all"]) > 0}

    def _among_present(self, truth: LabelMap, picture: Encoded) -> tuple[LabelMap, LabelMap]:
        """What counts, and the labels of a picture in which only its own classes compete."""
        present = np.setdiff1d(truth, [0, VOID])
        if self._vocabulary.background:
            return truth, self._label(picture, present)
        truth = _without_background(truth)
        if len(present) == 1:
            return truth, np.full(picture.size, present[0])
        return truth, self._label(picture, present, least=0.0)

    def _label(self, picture: Encoded, chosen: LabelMap, *, least: float | None = None) -> LabelMap:
        """Labels of a picture in which only some of the classes compete.

        Args:
            picture: with its features.
            chosen: the classes; none = all is background.
            least: threshold and denoising; None = the segmenter's.
        """
        if not len(chosen):
            return np.zeros(picture.size, int)
        specs = [self._vocabulary.classes[i - 1] for i in chosen.tolist()]
        words = ["|".join(spec.synonyms) for spec in specs]
        background = list(self._vocabulary.background) or "none"
        with self._segmenter.using(words, background=background):
            labels = self._segmenter.label(picture, threshold=least, denoise=least).labels
        found: LabelMap = np.array([0, *chosen])[labels]
        return found


def _without_background(truth: LabelMap) -> LabelMap:
    return np.where(truth == 0, VOID, truth)


def _areas(totals: Counts, kind: str) -> Areas:
    return Areas(*(totals[f"{what}_{kind}"] for what in ("hits", "predicted", "truth")))

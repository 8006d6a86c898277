"""Evaluations of a model on the development data, for the benchmarks that share them."""

import csv
import tempfile
from pathlib import Path
from typing import Any

from atas_deploy import RegionClassifier, Segmenter
from atas_deploy.backends.base import Backend
from atas_deploy.core.bundle import Bundle
from atas_deploy.evaluation.captioned import Captioned
from atas_deploy.evaluation.coherence import CoherenceTask
from atas_deploy.evaluation.localization import LocalizationTask
from atas_deploy.evaluation.region_data import RegionData
from atas_deploy.evaluation.regions import RegionsTask
from atas_deploy.evaluation.retrieval import RetrievalTask
from atas_deploy.evaluation.segmentation import SegmentationTask
from atas_deploy.evaluation.task import Task
from atas_deploy.evaluation.truth import PanopticTruth
from atas_deploy.media.annotations import PanopticFile
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.training.tiny.split import HELD_OUT_FILE

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


class DevTasks:
    """Opens tasks: 100 COCO panoptic images, and the held-out images of Flickr8k.

    Args:
        bundle: the model.
        data: folder of the data.
        backend: an engine, or its name.
    """

    def __init__(self, bundle: Bundle, data: Path, *, backend: str | Backend = "ort") -> None:
        self._bundle, self._backend = bundle, backend
        self._flickr = data / "flickr8k"
        self._images = data / "coco_panoptic_100" / "images"
        self._panoptic = data / "coco_panoptic_100" / "panoptic.json"

    def segmentation(self, *, refine: str = "none") -> Task:
        """All 133 categories, no background."""
        truth = self._truth()
        names, backend = list(truth.class_names or ()), self._backend
        segmenter = Segmenter(
            self._bundle, names, background="none", refine=refine, backend=backend
        )
        return SegmentationTask(segmenter, truth)

    def coherence(self) -> Task:
        """Pairs of patches."""
        encoders = self._encoders()
        return CoherenceTask(encoders, encoders.dense(), self._truth())

    def dense_regions(self) -> Task:
        """Boxes and masks by the dense features, without the crops."""
        found = self._regions()
        classifier = RegionClassifier(self._bundle, found.words(None), backend=self._backend)
        return RegionsTask(classifier, found, kinds=("boxes", "thing_masks", "stuff_masks"))

    def regions(self, **settings: Any) -> Task:
        """Boxes and masks; crops are 1.5 times the box."""
        found = self._regions()
        classifier = RegionClassifier(
            self._bundle, found.words(None), crop_scale=1.5, backend=self._backend, **settings
        )
        return RegionsTask(classifier, found)

    def localization(self) -> Task:
        """Patches that find their image and their thing."""
        return LocalizationTask(self._encoders(), self._regions())

    def retrieval(self) -> Task:
        """Captions of the held-out images."""
        names = set(HELD_OUT_FILE.read_text(encoding="utf-8").split())
        with tempfile.TemporaryDirectory() as folder:
            captions = Path(folder, "held-out.csv")
            with (
                (self._flickr / "captions.csv").open(encoding="utf-8", newline="") as source,
                captions.open("w", encoding="utf-8", newline="") as out,
            ):
                rows = csv.DictReader(source)
                writer = csv.DictWriter(out, rows.fieldnames or ())
                writer.writeheader()
                writer.writerows(row for row in rows if Path(row["image"]).name in names)
            pairs = Captioned(self._flickr / "images_224.tar", captions)
        return RetrievalTask(self._encoders(), pairs)

    def _encoders(self) -> Encoders:
        return Encoders(self._bundle, backend=self._backend)

    def _truth(self) -> PanopticTruth:
        return PanopticTruth(PanopticFile.open(self._panoptic), self._images)

    def _regions(self) -> RegionData:
        return RegionData(self._images, panoptic=self._panoptic)

"""Image-size sweep: how well boxes are named, against the size that the picture is encoded at.

Dense features are measured at each size. Crops are cut out of the picture as it is and resized to
what the class token was trained at, whatever the size of the sweep: they are measured once, and
their line is flat. Accuracies are those of `evaluation.regions`. A model is opened once, and a
picture read once a model.

Source: Wu et al., "CLIPSelf", ICLR 2024, figures 3a and A1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.geometry import check_short_side
from atas_deploy.evaluation.bootstrap import CONFIDENCE, Score
from atas_deploy.evaluation.page import markdown_table, show, show_fact, show_interval
from atas_deploy.evaluation.region_data import LabelledPicture, RegionData
from atas_deploy.evaluation.regions import TOP, RegionsTask, class_cosines, count_hits
from atas_deploy.evaluation.report import plain
from atas_deploy.evaluation.rows import FloatArray
from atas_deploy.evaluation.task import run_task
from atas_deploy.models import open_model
from atas_deploy.runtime.regions import RegionClassifier

SHORT_SIDES = (224, 336, 448, 560, 672)
DENSE, CROPS = "boxes", "crops"


@dataclass(frozen=True, slots=True)
class Curve:
    """What the sweep found for a model.

    Attributes:
        model: as it was given.
        facts: what the scores depend on, besides the size.
        dense: by short side, "boxes_top1" and "boxes_top5".
        crops: "crops_top1" and "crops_top5".
    """

    model: str
    facts: dict[str, Any]
    dense: dict[int, dict[str, Score]]
    crops: dict[str, Score]


class SizesTask(RegionsTask):
    """Accuracy of boxes by dense features of each size, and by crops: scores such as "448_top1".

    Args:
        classifier: as for `RegionsTask`; its own short side does not matter.
        data: pictures with labelled boxes.
        short_sides: of the encoder's input in pixels.

    Raises:
        ConfigError: the classifier has other classes than the data, or cannot take a size.
    """

    name = "sweep"

    def __init__(
        self, classifier: RegionClassifier, data: RegionData, *, short_sides: Sequence[int]
    ) -> None:
        super().__init__(classifier, data, kinds=[CROPS])
        window, stride = classifier.protocol.window, classifier.protocol.stride
        self._sizes = {
            str(side): classifier.encoders.dense(short_side=side, window=window, stride=stride)
            for side in short_sides
        }
        self.kinds = (CROPS, *self._sizes)

    def count(self, picture: LabelledPicture) -> dict[str, FloatArray]:
        """Boxes and hits of a picture by size and class, see `count_hits`."""
        boxes = [replace(region, rle=None) for region in picture.things]
        truth = np.array([region.category for region in boxes], np.intp)
        embedded = {CROPS: self.classifier.embed_crops(picture.image, boxes)}
        for size, encoder in self._sizes.items():
            embedded[size] = self.classifier.embed_dense(encoder(picture.image), boxes)
        counts: dict[str, FloatArray] = {}
        for kind, vectors in embedded.items():
            counts |= count_hits(kind, class_cosines(self.classifier, vectors), truth)
        return counts


class Sweep:
    """A sweep over sizes, for a model or several.

    Args:
        models: as `RegionClassifier` takes them.
        data: pictures with labelled boxes.
        short_sides: of the encoder's input in pixels.
        classes: words for the categories, see `RegionData.words`.
        readout: how dense features are read; None = each bundle's own.
        crop_scale: factor on both sides of the box that is cut out.
        tell: called with one line when a model must be exported first.
        settings: of `RegionClassifier`, but the short side.

    Attributes:
        total: pictures to be read, over all models.

    Raises:
        ConfigError: no size or a size that a model cannot take, or a setting cannot be used.
        BundleError: a bundle is missing or damaged.
    """

    def __init__(
        self,
        models: Sequence[str | Path | Bundle],
        data: RegionData,
        *,
        short_sides: Sequence[int] = SHORT_SIDES,
        classes: str | Sequence[str] | None = None,
        readout: str | None = None,
        crop_scale: float = 1.5,
        tell: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> None:
        if not models or not short_sides:
            raise ConfigError("Got no model or no short side to measure; give one at least.")
        self._data, self._words = data, data.words(classes)
        self._short_sides = sorted({*short_sides})
        self._settings = {"crop_scale": crop_scale, **settings}
        self._bundles = {_title(m): open_model(m, readout=readout, tell=tell) for m in models}
        for bundle in self._bundles.values():
            manifest = bundle.manifest
            for side in self._short_sides:
                check_short_side(side, multiple=manifest.multiple, cell=manifest.cell)
        self.total = len(data) * len(self._bundles)

    def run(
        self,
        *,
        advance: Callable[[], None] = lambda: None,
        replicates: int = 1000,
        seed: int = 0,
    ) -> list[Curve]:
        """Measure each model.

        Args:
            advance: called for each picture read.
            replicates: of the bootstrap.
            seed: of the bootstrap.

        Raises:
            InputError: an annotation cannot be used, or no region counts.
            BackendError: the engine fails.
        """
        curves = []
        for title, bundle in self._bundles.items():
            classifier = RegionClassifier(bundle, self._words, **self._settings)
            task = SizesTask(classifier, self._data, short_sides=self._short_sides)
            report = run_task(task, advance=advance, replicates=replicates, seed=seed)
            dense = {side: _named(DENSE, str(side), report.scores) for side in self._short_sides}
            crops = _named(CROPS, CROPS, report.scores)
            curves.append(Curve(title, _without_size(report.facts), dense, crops))
        return curves


def to_json(curves: Sequence[Curve], *, replicates: int, seed: int) -> dict[str, Any]:
    """Curves as JSON has them."""
    found: dict[str, Any] = plain(
        {
            "task": "sweep",
            "confidence": CONFIDENCE,
            "replicates": replicates,
            "seed": seed,
            "curves": [
                {
                    "model": curve.model,
                    "facts": curve.facts,
                    "dense": [
                        {
                            "short_side": side,
                            "scores": {name: asdict(score) for name, score in scores.items()},
                        }
                        for side, scores in curve.dense.items()
                    ],
                    "crops": {name: asdict(score) for name, score in curve.crops.items()},
                }
                for curve in curves
            ],
        }
    )
    return found


def to_markdown(curves: Sequence[Curve]) -> str:
    """A table: a line for each model and size, and one for its crops."""
    rule = (
        f"Mean class accuracy of things' boxes in percent, with {100 * CONFIDENCE:.0f} % intervals "
        "over images. Crops are resized to the trained size and do not depend on the short side."
    )
    rows = [row for curve in curves for row in _rows(curve)]
    facts = [line for name in curves[0].facts for line in _fact_lines(curves, name)]
    parts = ["# Sweep", markdown_table(rows), rule, "## Settings", "\n".join(facts)]
    return "\n\n".join(parts) + "\n"


def _fact_lines(curves: Sequence[Curve], name: str) -> list[str]:
    """A fact that all models share in one line, else a line each."""
    facts = [curve.facts.get(name) for curve in curves]
    title = name.replace("_", " ")
    if all(fact == facts[0] for fact in facts):
        return [f"- {title}: {show_fact(facts[0])}"] if facts[0] is not None else []
    return [
        f"- {title} of {c.model}: {show_fact(fact)}" for c, fact in zip(curves, facts, strict=True)
    ]


def _rows(curve: Curve) -> Iterator[dict[str, str]]:
    yield _row(curve.model, "crops", curve.crops)
    for side, scores in curve.dense.items():
        yield _row(curve.model, f"dense, {side} px", scores)


def _row(model: str, features: str, scores: dict[str, Score]) -> dict[str, str]:
    row = {"model": model, "features": features}
    for name, score in scores.items():
        top = name.rpartition("_")[2].replace("top", "Top-")
        row[top] = show(name, score.value)
        row[f"{top} interval"] = show_interval(name, score)
    return row


def _named(name: str, kind: str, scores: dict[str, Score]) -> dict[str, Score]:
    """The scores of a kind, by another name."""
    return {f"{name}_top{k}": scores[f"{kind}_top{k}"] for k in TOP}


def _without_size(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts without what does not hold for all sizes, or for none."""
    apart = ("short_side", "windows", "crop_weight")
    return {name: fact for name, fact in facts.items() if name not in apart}


def _title(model: str | Path | Bundle) -> str:
    return model.manifest.name if isinstance(model, Bundle) else str(model)

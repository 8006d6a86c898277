"""Image-size sweep: how well boxes are named, against the size that the picture is encoded at.

Dense features are measured at each size. Crops are cut out of the picture as it is and resized to
what the class token was trained at, whatever the size of the sweep: they are measured once, and
their line is flat.

Source: Wu et al., "CLIPSelf", ICLR 2024, figures 3a and A1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.geometry import check_short_side
from atas_deploy.evaluation.bootstrap import CONFIDENCE, Score
from atas_deploy.evaluation.region_data import RegionData
from atas_deploy.evaluation.regions import RegionsTask
from atas_deploy.evaluation.report import markdown_table, plain, show, show_interval
from atas_deploy.evaluation.task import Report, run_task
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


class Sweep:
    """A sweep over sizes, for a model or several.

    Args:
        models: as `RegionClassifier` takes them.
        data: pictures with labelled boxes.
        short_sides: of the encoder's input in pixels.
        classes: words for the categories, see `RegionData.words`.
        readout: how dense features are read; None = each bundle's own.
        tell: called with one line when a model must be exported first.
        settings: of `RegionClassifier`, but the short side.

    Attributes:
        total: pictures to be read, over all sizes and models.

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
        tell: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> None:
        if not models or not short_sides:
            raise ConfigError("Got no model or no short side to measure; give one at least.")
        self._data, self._words = data, data.words(classes)
        self._short_sides = sorted({*short_sides})
        self._settings = settings
        self._bundles = {_title(m): open_model(m, readout=readout, tell=tell) for m in models}
        for bundle in self._bundles.values():
            manifest = bundle.manifest
            for side in self._short_sides:
                check_short_side(side, multiple=manifest.multiple, cell=manifest.cell)
        self.total = len(data) * len(self._bundles) * (len(self._short_sides) + 1)

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
        bootstrap = {"replicates": replicates, "seed": seed}
        return [
            self._curve(title, bundle, lambda task: run_task(task, advance=advance, **bootstrap))
            for title, bundle in self._bundles.items()
        ]

    def _curve(self, title: str, bundle: Bundle, run: Callable[[RegionsTask], Report]) -> Curve:
        crops = run(self._task(bundle, CROPS, short_side=None))
        dense = {
            side: run(self._task(bundle, DENSE, short_side=side)).scores
            for side in self._short_sides
        }
        return Curve(title, _without_size(crops.facts), dense, crops.scores)

    def _task(self, bundle: Bundle, kind: str, *, short_side: int | None) -> RegionsTask:
        classifier = RegionClassifier(bundle, self._words, short_side=short_side, **self._settings)
        return RegionsTask(classifier, self._data, kinds=[kind])


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
                        {"short_side": side, "scores": _numbers(scores)}
                        for side, scores in curve.dense.items()
                    ],
                    "crops": _numbers(curve.crops),
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
        return [f"- {title}: {facts[0]}"]
    return [f"- {title} of {c.model}: {fact}" for c, fact in zip(curves, facts, strict=True)]


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


def _numbers(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    return {
        name: {"value": score.value, "low": score.low, "high": score.high}
        for name, score in scores.items()
    }


def _without_size(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts without what does not hold for all sizes, or for none."""
    apart = ("short_side", "windows", "crop_weight")
    return {name: fact for name, fact in facts.items() if name not in apart}


def _title(model: str | Path | Bundle) -> str:
    return model.manifest.name if isinstance(model, Bundle) else str(model)

"""Does the model in training segment better? Zero-shot mIoU on labelled pictures, start and now.

FOLDER/check/start/READOUT     report of the start, see `atas_deploy.evaluation.report`
FOLDER/check/latest/READOUT    report of the last check

Both are what `atas-deploy eval segmentation` writes, so `atas-deploy eval compare` takes them.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from atas_deploy.clip.manifest import encoder_settings
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.classes import read_class_list
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.readouts import check_readout
from atas_deploy.evaluation.coco_data import open_panoptic
from atas_deploy.evaluation.compare import Comparison, compare_runs
from atas_deploy.evaluation.compare import to_json as comparison_json
from atas_deploy.evaluation.label_folder import LabelFolder
from atas_deploy.evaluation.report import REPORT, plain, write_report
from atas_deploy.evaluation.segmentation import SegmentationTask
from atas_deploy.evaluation.task import Report, run_task
from atas_deploy.evaluation.truth import PanopticTruth, Truth
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.training.live import live_model

Scores = dict[str, float]

_VALUES = {"check_miou": "miou", "check_present_miou": "present_miou"}
_HEADLINE = "present_miou"


def open_labelled(
    images: Path,
    *,
    labels: Path | None = None,
    panoptic: Path | None = None,
    max_images: int | None = None,
) -> Truth:
    """Open labelled pictures, as `atas-deploy eval segmentation` does by default.

    Args:
        images: folder of the pictures.
        labels: folder of their label maps, PNG; value 1 is the first class, 255 does not count.
        panoptic: or COCO's panoptic JSON, whose PNGs lie in the folder of its name.
        max_images: take the first so many only.

    Raises:
        ConfigError: neither or both kinds of labels are named.
        InputError: the data cannot be used.
    """
    if labels is not None and panoptic is None:
        return LabelFolder(images, labels, limit=max_images)
    if panoptic is not None and labels is None:
        return PanopticTruth(open_panoptic(panoptic), images, limit=max_images)
    got = "no labels" if labels is None else "both label maps and a panoptic file"
    raise ConfigError(f"Got {got} for the pictures in {images} to check on; give one of the two.")


class ZeroShotCheck:
    """Measures a model before, during and after training on the same labelled pictures.

    A change of the images' order, the words or the settings between the start and a later check
    would make them incomparable, so all of them are fixed here.

    Args:
        clip: the model to train; its weights are looked at anew in each check.
        truth: labelled pictures, of `open_labelled` or others.
        folder: of the run.
        classes: what the labels mean, in their order, as `Segmenter` takes them; None = the names
            that the data bring. Background competes only if the list brings it.
        readouts: how dense features are read; none = as the model records, else sclip.
        short_side: shorter side of the encoder's input in pixels; None = the model's own.
        precision: "fp32", or "bf16" for autocast.
        weights: gives the state dict to measure instead of the model's own, such as the one that
            will be saved; it is called after the start only.
        advance: called for each picture.

    Raises:
        ConfigError: the data name no classes and none are given, or no such read-out.
    """

    def __init__(
        self,
        clip: ClipModel,
        truth: Truth,
        *,
        folder: Path,
        classes: str | Sequence[str] | None = None,
        readouts: Sequence[str] = (),
        short_side: int | None = None,
        precision: str = "fp32",
        weights: Callable[[], Mapping[str, Tensor]] | None = None,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        words = classes or truth.class_names
        if not words:
            raise ConfigError(
                "Label maps name no classes; give --check-classes, in the order of their values."
            )
        self.readouts = tuple(map(check_readout, readouts)) or (encoder_settings(clip)["readout"],)
        self._clip, self._truth, self._words = clip, truth, words
        self._folder, self._precision, self._weights = folder / "check", precision, weights
        self._settings: dict[str, Any] = {
            "background": None if read_class_list(words).background else "none",
            "short_side": short_side,
        }
        self._advance = advance
        self._text: str | None = None  # fingerprint of the start's text tower

    def start(self) -> Scores:
        """Measure the model before training, unless the run's folder has that already.

        To be called with the weights of the start, also by a run that goes on: it finds the report
        again if model, data and settings are the same, and measures anew if they are not.

        Returns:
            As a call does.

        Raises:
            ConfigError: there are more or fewer classes than the data have.
            InputError: a picture or its labels cannot be used, or none has a label that counts.
            OutputError: the reports cannot be written.
        """
        return self._measure("start", {r: self._known(r) for r in self.readouts})

    def __call__(self, step: int = 0) -> Scores:
        """Measure the model as it is now (an `on_check` of the training loop).

        Args:
            step: steps taken; only for the loop.

        Returns:
            "check_miou" among all classes and "check_present_miou" among those of each picture, in
            [0, 1]; with several read-outs each has its name behind it, as in "check_miou_sclip".

        Raises:
            InputError: a picture or its labels cannot be used.
            BackendError: memory ran out.
            OutputError: the reports cannot be written.
        """
        if self._weights is None:
            return self._measure("latest", {})
        with _holding(self._clip.model, self._weights()):
            return self._measure("latest", {})

    def compare(self) -> dict[str, Comparison]:
        """What training changed, by read-out: the last check less the start, image by image.

        Raises:
            InputError: one of them was not measured.
        """
        return {
            readout: compare_runs(self._report("start", readout), self._report("latest", readout))
            for readout in self.readouts
        }

    def _measure(self, when: str, known: Mapping[str, Scores | None]) -> Scores:
        """Scores of each read-out, out of a report that is known or measured and written."""
        found: Scores = {}
        for readout in self.readouts:
            scores = known.get(readout)
            if scores is None:
                with self._task(readout) as task:
                    report = run_task(task, advance=self._advance)
                write_report(self._report(when, readout), report)
                scores = _scores(report)
            end = f"_{readout}" if len(self.readouts) > 1 else ""
            found |= {f"{name}{end}": scores[score] for name, score in _VALUES.items()}
        return found

    @contextmanager
    def _task(self, readout: str) -> Iterator[SegmentationTask]:
        with live_model(self._clip, readout=readout, precision=self._precision) as live:
            text = live.bundle.text_fingerprint
            self._text = self._text or text
            segmenter = Segmenter(
                live.bundle,
                self._words,
                backend=live.backend,
                cache=text == self._text,  # those of towers in training would never be asked again
                **self._settings,
            )
            yield SegmentationTask(segmenter, self._truth)

    def _known(self, readout: str) -> Scores | None:
        """Scores of the start in the run's folder, if it is this start on these data."""
        try:
            report = json.loads((self._report("start", readout) / REPORT).read_text("utf-8"))
            counted = report["units"] + report["facts"]["pictures_without_counted_pixels"]
            scores = {score: float(report["scores"][score]["value"]) for score in _VALUES.values()}
        except (OSError, KeyError, TypeError, ValueError):
            return None
        with self._task(readout) as task:
            facts = plain(task.facts())
        facts["pictures_without_counted_pixels"] = counted - report["units"]
        return scores if facts == report["facts"] and counted == len(self._truth) else None

    def _report(self, when: str, readout: str) -> Path:
        return self._folder / when / readout


def to_sentence(comparison: Comparison) -> str:
    """A comparison as people say it, in percent.

    "mIoU among present classes 14.3 -> 19.0, +4.7 (3.1 to 6.2), on 100 images"; the brackets hold
    the 95 % interval, which a single image does not have.
    """
    found = comparison.differences[_HEADLINE]
    interval = ""
    if not math.isnan(found.low):
        interval = f" ({_percent(found.low)} to {_percent(found.high)})"
    images = f"{comparison.units} image{'s' * (comparison.units != 1)}"
    return (
        f"mIoU among present classes {_percent(found.a)} -> {_percent(found.b)}, "
        f"{100 * found.value:+.1f}{interval}, on {images}"
    )


def check_facts(comparisons: Mapping[str, Comparison], *, step: int) -> dict[str, Any]:
    """Comparisons by read-out for training.json: step, images, and the differences by score."""
    kept = ("units", "differences", "confidence")
    found = {readout: comparison_json(each) for readout, each in comparisons.items()}
    return {
        readout: {"step": step, **{key: each[key] for key in kept}}
        for readout, each in found.items()
    }


def _scores(report: Report) -> Scores:
    return {name: score.value for name, score in report.scores.items()}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


@contextmanager
def _holding(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Other weights inside a `with` block; then those of before, bit for bit."""
    own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    try:
        model.load_state_dict(weights)
        yield
    finally:
        model.load_state_dict(own)

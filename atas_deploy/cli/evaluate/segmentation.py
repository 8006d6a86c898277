"""`atas-deploy eval segmentation`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import report_options, run_evaluation, take_report
from atas_deploy.cli.evaluate.segmenter_options import MASKS, MODEL, WORDS, open_segmenter
from atas_deploy.cli.evaluate.truth_options import TRUTH, open_truth
from atas_deploy.cli.sections import SectionCommand, add_options, section
from atas_deploy.core.errors import ConfigError

if TYPE_CHECKING:
    from atas_deploy.evaluation.segmentation import SegmentationTask

_words = section("Words")

_CLASSES = _words(
    "-c",
    "--classes",
    metavar="WORDS",
    help="The classes of the labels, in their order, as @voc21 or @names.txt.  "
    "[default: the categories of --panoptic, or the names of --label-values]",
)
_BACKGROUND = _words(
    "--background",
    metavar="WORDS",
    help="What competes as background: auto, none or words.  [default: what the class list or the "
    "preset brings, else none]",
)


@click.command(cls=SectionCommand)
@add_options(*TRUTH, _CLASSES, _BACKGROUND, *WORDS, *MODEL, *MASKS)
@report_options
def segmentation(
    *,
    classes: str | None,
    background: str | None,
    **settings: Any,
) -> None:
    """Compare masks with label maps: mIoU and accuracies.

    Among all classes, and among those that are present in each picture.

    \b
    Try:  atas-deploy eval segmentation --images val/ --labels val-labels/ --classes @voc21
          atas-deploy eval segmentation --images val2017/ --panoptic panoptic_val2017.json
    """  # noqa: D301  (click needs the real control character)
    report = take_report(settings)

    def make_task() -> "SegmentationTask":
        from atas_deploy.evaluation.segmentation import SegmentationTask

        truth = open_truth(settings, classes=classes)
        words = classes or truth.class_names
        if not words:
            raise ConfigError("Label maps name no classes; give --classes, in their order.")
        rule = background or _rule(words, settings["preset"])
        return SegmentationTask(
            open_segmenter(words, background=rule, quiet=report["quiet"], **settings), truth
        )

    run_evaluation(make_task, **report)


def _rule(words: str | Sequence[str], preset: str | None) -> str | None:
    """The background of a list with none of its own, outside of a preset's rows: none."""
    from atas_deploy.core.classes import read_class_list
    from atas_deploy.core.presets import choose_protocol

    if choose_protocol(preset, words).row or read_class_list(words).background:
        return None
    return "none"

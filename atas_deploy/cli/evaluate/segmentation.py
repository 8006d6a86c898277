"""`atas-deploy eval segmentation`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import report_options, run_evaluation
from atas_deploy.cli.evaluate.region_options import options
from atas_deploy.cli.evaluate.segmenter_options import MASKS, MODEL, WORDS, open_segmenter
from atas_deploy.cli.evaluate.truth_options import TRUTH, open_truth
from atas_deploy.cli.sections import SectionCommand, section
from atas_deploy.core.errors import ConfigError

if TYPE_CHECKING:
    from atas_deploy.evaluation.segmentation import SegmentationTask

_words = section("Words")

_CLASSES = _words(
    "-c",
    "--classes",
    metavar="WORDS",
    help="The classes of the labels, in their order, as @voc21 or @names.txt.  "
    "[default: the categories of --panoptic]",
)
_BACKGROUND = _words(
    "--background",
    metavar="WORDS",
    help="What competes as background: auto, none or words.  [default: what the class list or the "
    "preset brings, else none]",
)


@click.command(cls=SectionCommand)
@options(*TRUTH, _CLASSES, _BACKGROUND, *WORDS, *MODEL, *MASKS)
@report_options
def segmentation(
    *,
    classes: str | None,
    background: str | None,
    out: Path | None,
    force: bool,
    replicates: int,
    seed: int,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Compare masks with label maps: mIoU and accuracies.

    Among all classes, and among those that are present in each picture.

    \b
    Try:  atas-deploy eval segmentation --images val/ --labels val-labels/ --classes @voc21
          atas-deploy eval segmentation --images val2017/ --panoptic panoptic_val2017.json
    """  # noqa: D301  (click needs the real control character)

    def make_task() -> "SegmentationTask":
        from atas_deploy.evaluation.segmentation import SegmentationTask

        truth = open_truth(settings)
        words = classes or truth.class_names
        if not words:
            raise ConfigError("Label maps name no classes; give --classes, in their order.")
        rule = background or _rule(words, settings["preset"])
        return SegmentationTask(
            open_segmenter(words, background=rule, quiet=quiet, **settings), truth
        )

    run_evaluation(
        make_task,
        out=out,
        force=force,
        replicates=replicates,
        seed=seed,
        as_json=as_json,
        quiet=quiet,
    )


def _rule(words: str | Sequence[str], preset: str | None) -> str | None:
    """The background of a list with none of its own, outside of a preset's rows: none."""
    from atas_deploy.core.classes import read_class_list
    from atas_deploy.core.presets import choose_protocol

    if choose_protocol(preset, words).row or read_class_list(words).background:
        return None
    return "none"

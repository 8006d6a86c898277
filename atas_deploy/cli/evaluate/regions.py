"""`atas-deploy eval regions`."""

from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.crop_options import crop_weight
from atas_deploy.cli.evaluate.common import report_options, run_evaluation, take_report
from atas_deploy.cli.evaluate.model_options import MODEL, SIZE
from atas_deploy.cli.evaluate.region_data_options import (
    CROP_SCALE,
    NAMING,
    REGION_DATA,
    open_regions,
    parse_names,
)
from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.sections import SectionCommand, add_options, section

if TYPE_CHECKING:
    from atas_deploy.evaluation.regions import RegionsTask

_regions = section("Regions")
_KINDS = _regions(
    "--kinds",
    metavar="LIST",
    type=parse_names,
    help="Of boxes, thing_masks, stuff_masks, crops, both; joined by commas.  "
    "[default: all that the data have]",
)


@click.command(cls=SectionCommand)
@add_options(*REGION_DATA, _KINDS, crop_weight(_regions), CROP_SCALE, *NAMING, *MODEL, *SIZE)
@report_options
def regions(
    *, kinds: tuple[str, ...] | None, classes: str | None, no_cache: bool, **settings: Any
) -> None:
    """Name boxes, masks and crops, and count how many are right by class.

    Top-1 and Top-5 mean class accuracy, CLIPSelf's protocol.

    \b
    Try:  atas-deploy eval regions --images val2017/ --panoptic panoptic_val2017.json
    """  # noqa: D301  (click needs the real control character)
    report = take_report(settings)

    def make_task() -> "RegionsTask":
        from atas_deploy.evaluation.regions import RegionsTask
        from atas_deploy.runtime.regions import RegionClassifier

        data = open_regions(settings)
        classifier = RegionClassifier(
            classes=data.words(classes),
            cache=not no_cache,
            progress=PromptProgress(make_progress(quiet=report["quiet"])),
            tell=None if report["quiet"] else say,
            **{name: value for name, value in settings.items() if value is not None},
        )
        return RegionsTask(classifier, data, kinds=kinds)

    run_evaluation(make_task, **report)

"""`atas-deploy eval regions`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import report_options, run_evaluation
from atas_deploy.cli.evaluate.data_options import data_options
from atas_deploy.cli.evaluate.region_options import (
    CROP_SCALE,
    MODEL,
    NAMING,
    SIZE,
    options,
    parse_names,
)
from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.region_options import crop_weight
from atas_deploy.cli.sections import SectionCommand, section

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
@data_options("--images", "--panoptic", "--pngs", "--instances", "--max-images")
@options(_KINDS, crop_weight(_regions), CROP_SCALE, *NAMING, *MODEL, *SIZE)
@report_options
def regions(  # noqa: PLR0913
    *,
    images: Path,
    panoptic: Path | None,
    pngs: Path | None,
    instances: Path | None,
    max_images: int | None,
    kinds: tuple[str, ...] | None,
    classes: str | None,
    no_cache: bool,
    out: Path | None,
    force: bool,
    replicates: int,
    seed: int,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Name boxes, masks and crops, and count how many are right by class.

    Top-1 and Top-5 mean class accuracy, CLIPSelf's protocol.

    \b
    Try:  atas-deploy eval regions --images val2017/ --panoptic panoptic_val2017.json
    """  # noqa: D301  (click needs the real control character)

    def make_task() -> "RegionsTask":
        from atas_deploy.evaluation.region_data import RegionData
        from atas_deploy.evaluation.regions import RegionsTask
        from atas_deploy.runtime.regions import RegionClassifier

        data = RegionData(
            images, panoptic=panoptic, pngs=pngs, instances=instances, max_images=max_images
        )
        classifier = RegionClassifier(
            classes=data.words(classes),
            cache=not no_cache,
            progress=PromptProgress(make_progress(quiet=quiet)),
            tell=None if quiet else say,
            **{name: value for name, value in settings.items() if value is not None},
        )
        return RegionsTask(classifier, data, kinds=kinds)

    run_evaluation(
        make_task,
        out=out,
        force=force,
        replicates=replicates,
        seed=seed,
        as_json=as_json,
        quiet=quiet,
    )

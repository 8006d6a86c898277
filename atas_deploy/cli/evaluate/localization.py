"""`atas-deploy eval localization`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import report_options, run_evaluation
from atas_deploy.cli.evaluate.data_options import data_options
from atas_deploy.cli.evaluate.region_options import MODEL, SIZE, options
from atas_deploy.cli.progress import say
from atas_deploy.cli.sections import SectionCommand, section

if TYPE_CHECKING:
    from atas_deploy.evaluation.localization import LocalizationTask

_PATCHES = section("Regions")(
    "--patches",
    metavar="N",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Patches that are drawn of each picture, at most.",
)


@click.command(cls=SectionCommand)
@data_options("--images", "--panoptic", "--pngs", "--instances", "--max-images")
@options(_PATCHES, *MODEL, *SIZE)
@report_options
def localization(  # noqa: PLR0913
    *,
    images: Path,
    panoptic: Path | None,
    pngs: Path | None,
    instances: Path | None,
    max_images: int | None,
    patches: int,
    short_side: int | None,
    out: Path | None,
    force: bool,
    replicates: int,
    seed: int,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Ask patches for their image, and for the region that they lie in.

    Recall at 1, 5 and 10 among 50. Local features find their region more often, and their image
    less often.

    \b
    Try:  atas-deploy eval localization --images val2017/ --panoptic panoptic_val2017.json
    """  # noqa: D301  (click needs the real control character)

    def make_task() -> "LocalizationTask":
        from atas_deploy.evaluation.localization import LocalizationTask
        from atas_deploy.evaluation.region_data import RegionData
        from atas_deploy.runtime.encoders import Encoders

        data = RegionData(
            images, panoptic=panoptic, pngs=pngs, instances=instances, max_images=max_images
        )
        encoders = Encoders(cache=False, tell=None if quiet else say, **settings)
        return LocalizationTask(encoders, data, short_side=short_side, patches=patches, seed=seed)

    run_evaluation(
        make_task,
        out=out,
        force=force,
        replicates=replicates,
        seed=seed,
        as_json=as_json,
        quiet=quiet,
    )

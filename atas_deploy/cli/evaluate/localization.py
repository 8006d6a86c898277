"""`atas-deploy eval localization`."""

from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import report_options, run_evaluation, take_report
from atas_deploy.cli.evaluate.model_options import ENGINE, SIZE
from atas_deploy.cli.evaluate.region_data_options import CROP_SCALE, REGION_DATA, open_regions
from atas_deploy.cli.progress import say
from atas_deploy.cli.sections import SectionCommand, add_options, section
from atas_deploy.cli.segment_options import OPTIONS

if TYPE_CHECKING:
    from atas_deploy.evaluation.localization import LocalizationTask

_PATCHES = section("Regions")(
    "--patches",
    metavar="N",
    type=click.IntRange(min=1),
    help="Most patches of a picture that ask, drawn by --seed.  [default: all]",
)
_TARGETS = section("Model")(
    "--targets",
    metavar="NAME",
    help="Model that embeds pictures and crops; one for all models that are compared.  "
    "[default: the same]",
)
_MODEL = (OPTIONS["--model"], _TARGETS, OPTIONS["--readout"], *ENGINE, *SIZE)


@click.command(cls=SectionCommand)
@add_options(*REGION_DATA, CROP_SCALE, _PATCHES, *_MODEL)
@report_options
def localization(
    *,
    crop_scale: float,
    patches: int | None,
    targets: str | None,
    short_side: int | None,
    **settings: Any,
) -> None:
    """Ask patches for their image, and for the region that they lie in.

    Recall at 1, 5 and 10 among 50, CLIPSelf's protocol. Local features find their region more
    often, and their image less often.

    \b
    Try:  atas-deploy eval localization --images val2017/ --panoptic panoptic_val2017.json
    """  # noqa: D301  (click needs the real control character)
    report = take_report(settings)

    def make_task() -> "LocalizationTask":
        from atas_deploy.evaluation.localization import LocalizationTask
        from atas_deploy.runtime.encoders import Encoders

        data = open_regions(settings, any_size=True)
        opened = {**settings, "cache": False, "tell": None if report["quiet"] else say}
        encoders, fixed = Encoders(**opened), {**opened, "model": targets, "readout": None}
        return LocalizationTask(
            encoders,
            data,
            targets=None if targets is None else Encoders(**fixed),
            short_side=short_side,
            crop_scale=crop_scale,
            patches=patches,
            seed=report["seed"],
        )

    run_evaluation(make_task, **report)

"""`atas-deploy eval sweep`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import check_out, report_options
from atas_deploy.cli.evaluate.data_options import data_options
from atas_deploy.cli.evaluate.region_options import CROP_SCALE, ENGINE, NAMING, options, parse_names
from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.sections import SectionCommand, section
from atas_deploy.cli.segment_options import OPTIONS

if TYPE_CHECKING:
    from atas_deploy.evaluation.sweep import Curve, Sweep

SWEEP, PAGE, PLOT = "sweep.json", "sweep.md", "sweep.png"
_model = section("Model")


def parse_sizes(text: str) -> tuple[int, ...]:
    """The numbers of pixels in "224,448".

    Raises:
        BadParameter: one is no whole number above 0, or there is none.
    """
    names = parse_names(text)
    if wrong := [name for name in names if not name.isdecimal() or not int(name)]:
        raise click.BadParameter(f"{wrong[0]!r} is no number of pixels; write 224,448.")
    if not names:
        raise click.BadParameter("there is no size in it; write 224,448.")
    return tuple(map(int, names))


_MODEL = (
    _model(
        "--model",
        "models",
        metavar="NAME",
        multiple=True,
        default=["atas-tiny"],
        help="Name, as ViT-B-16/openai, checkpoint or bundle folder; again for more curves.  "
        "[default: atas-tiny]",
    ),
    OPTIONS["--readout"],
    *ENGINE,
    _model(
        "--short-sides",
        metavar="LIST",
        type=parse_sizes,
        default="224,336,448,560,672",
        show_default=True,
        help="Shorter sides of the encoder's input in pixels, joined by commas.",
    ),
    OPTIONS["--batch-size"],
)


@click.command(cls=SectionCommand)
@data_options("--images", "--panoptic", "--pngs", "--instances", "--max-images")
@options(CROP_SCALE, *NAMING, *_MODEL)
@report_options
def sweep(  # noqa: PLR0913
    *,
    images: Path,
    panoptic: Path | None,
    pngs: Path | None,
    instances: Path | None,
    max_images: int | None,
    no_cache: bool,
    out: Path | None,
    force: bool,
    replicates: int,
    seed: int,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Name boxes at several sizes of the picture, and draw how that matters.

    Top-1 and Top-5 mean class accuracy of dense features, and of crops, as `eval regions` has them.
    With --out a plot, too.

    \b
    Try:  atas-deploy eval sweep --images val2017/ --panoptic panoptic_val2017.json --out sweep
    """  # noqa: D301  (click needs the real control character)
    from atas_deploy.evaluation.region_data import RegionData
    from atas_deploy.evaluation.sweep import Sweep, to_json, to_markdown
    from atas_deploy.evaluation.sweep_plot import check_matplotlib

    check_out(out, force=force, name=SWEEP)
    if out is not None:
        check_matplotlib()
    data = RegionData(
        images, panoptic=panoptic, pngs=pngs, instances=instances, max_images=max_images
    )
    task = Sweep(
        data=data,
        cache=not no_cache,
        progress=PromptProgress(make_progress(quiet=quiet)),
        tell=None if quiet else say,
        **{name: value for name, value in settings.items() if value is not None},
    )
    curves = _run(task, replicates=replicates, seed=seed, quiet=quiet)
    page = to_markdown(curves)
    found = to_json(curves, replicates=replicates, seed=seed)
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if out is not None:
        _write(out, curves, page=page, text=text)
    click.echo(text if as_json else page, nl=as_json)


def _run(task: "Sweep", *, replicates: int, seed: int, quiet: bool) -> "list[Curve]":
    """Measure, with progress."""
    progress = make_progress(quiet=quiet)
    progress.begin("sweep", total=task.total, unit="image")
    try:
        return task.run(advance=progress.advance, replicates=replicates, seed=seed)
    finally:
        progress.end()


def _write(out: Path, curves: "list[Curve]", *, page: str, text: str) -> None:
    """Write page, plot and, last, what tells of a sweep."""
    from atas_deploy.evaluation.report import write_text
    from atas_deploy.evaluation.sweep_plot import write_plot

    write_text(out / PAGE, page)
    write_plot(out / PLOT, curves)
    write_text(out / SWEEP, text + "\n")

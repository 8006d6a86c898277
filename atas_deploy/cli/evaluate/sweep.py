"""`atas-deploy eval sweep`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.evaluate.common import ReportOptions, hold, report_options, take_report
from atas_deploy.cli.evaluate.model_options import ENGINE
from atas_deploy.cli.evaluate.region_data_options import (
    CROP_SCALE,
    NAMING,
    REGION_DATA,
    open_regions,
    parse_names,
)
from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.sections import SectionCommand, add_options, section
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
@add_options(*REGION_DATA, CROP_SCALE, *NAMING, *_MODEL)
@report_options
def sweep(*, no_cache: bool, **settings: Any) -> None:
    """Name boxes at several sizes of the picture, and draw how that matters.

    Top-1 and Top-5 mean class accuracy of dense features, and of crops, as `eval regions` has them.
    With --out a plot, too.

    \b
    Try:  atas-deploy eval sweep --images val2017/ --panoptic panoptic_val2017.json --out sweep
    """  # noqa: D301  (click needs the real control character)
    from atas_deploy.evaluation.sweep import Sweep, to_json, to_markdown
    from atas_deploy.evaluation.sweep_plot import check_matplotlib

    report = take_report(settings)
    out, quiet = report["out"], report["quiet"]
    with hold(out, force=report["force"], name=SWEEP):
        if out is not None:
            check_matplotlib()
        task = Sweep(
            data=open_regions(settings),
            cache=not no_cache,
            progress=PromptProgress(make_progress(quiet=quiet)),
            tell=None if quiet else say,
            **{name: value for name, value in settings.items() if value is not None},
        )
        curves = _run(task, report)
        page = to_markdown(curves)
        found = to_json(curves, replicates=report["replicates"], seed=report["seed"])
        text = json.dumps(found, indent=2, ensure_ascii=False)
        click.echo(text if report["as_json"] else page, nl=report["as_json"])
        if out is not None:  # after the page: a full disk must not lose it
            _write(out, curves, page=page, text=text)


def _run(task: "Sweep", report: ReportOptions) -> "list[Curve]":
    """Measure, with progress."""
    progress = make_progress(quiet=report["quiet"])
    progress.begin("sweep", total=task.total, unit="image")
    try:
        return task.run(
            advance=progress.advance, replicates=report["replicates"], seed=report["seed"]
        )
    finally:
        progress.end()


def _write(out: Path, curves: "list[Curve]", *, page: str, text: str) -> None:
    """Write plot and page and, with it, what tells of a sweep."""
    from atas_deploy.evaluation.report import write_texts
    from atas_deploy.evaluation.sweep_plot import write_plot

    write_plot(out / PLOT, curves)
    write_texts(out, {PAGE: [page], SWEEP: [text, "\n"]})

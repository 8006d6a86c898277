"""`atas-deploy classify`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.classify_options import classify_options
from atas_deploy.cli.classify_report import announce, complain, conclude, to_json
from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.sections import SectionCommand
from atas_deploy.core.errors import ConfigError

if TYPE_CHECKING:
    from atas_deploy.runtime.options import JobOptions
    from atas_deploy.runtime.region_job import RegionsFrom

_KINDS = ("boxes", "masks", "grid", "proposals")
_JOB = ("opacity", "overlay", "every", "start", "end", "max_frames", "force")


@click.command(cls=SectionCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@classify_options
@click.pass_context
def classify(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    *,
    out: Path,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Name boxes, masks, cells of a grid or proposed regions by words.

    INPUT is an image, a video, a folder, a glob, a stream's address or camera:0. Results:
    regions.csv, coco_results.json and run.json for all, and an overlay of each image and video.

    Exit code: 0 all done, 1 something failed, 2 wrong usage or refused, 130 Ctrl-C, 143 SIGTERM.
    """
    from atas_deploy.runtime.options import JobOptions

    kinds = {kind: settings.pop(kind) for kind in _KINDS}
    settings["overlay"] = not settings.pop("no_overlay")
    options = JobOptions(**{name: settings.pop(name) for name in _JOB})
    if settings["background"] is None and (kinds["grid"] or kinds["proposals"]):
        settings["background"] = "auto"
    _check_crops(settings)
    regions_from = _open(kinds)
    done = run_classify(
        inputs,
        regions_from,
        out=out,
        options=options,
        quiet=quiet,
        as_json=as_json,
        **settings,
    )
    ctx.exit(0 if done else 1)


def _check_crops(settings: dict[str, Any]) -> None:
    """Refuse settings of crops where none are made or weighed.

    Raises:
        ConfigError: one is given.
    """
    embed = settings["embed"]
    if settings["crop_weight"] is not None and embed != "both":
        raise ConfigError(
            f"Got --crop-weight with --embed {embed}; expected it with --embed both only, where "
            "crops are weighed: choose that, or leave it out."
        )
    if settings["crop_scale"] is not None and embed == "dense":
        raise ConfigError(
            "Got --crop-scale with --embed dense, which cuts out no crops; choose --embed crop or "
            "both, or leave it out."
        )


def _open(kinds: dict[str, Any]) -> "RegionsFrom":
    """Open what says where the regions are.

    Raises:
        UsageError: it is not exactly one.
        InputError: a file cannot be read.
    """
    from atas_deploy.runtime.region_job import FileRegions, GridRegions, ProposedRegions

    given = [kind for kind, value in kinds.items() if value is not None]
    if len(given) != 1:
        got = " and ".join(f"--{kind}" for kind in given) or "none"
        raise click.UsageError(
            f"Got {got}; expected exactly one of --boxes, --masks, --grid and --proposals."
        )
    match given[0]:
        case "boxes":
            return FileRegions.boxes(kinds["boxes"])
        case "masks":
            return FileRegions.masks(kinds["masks"])
        case "grid":
            return GridRegions(kinds["grid"])
        case _:
            return ProposedRegions()


def run_classify(
    inputs: Sequence[str],
    regions_from: "RegionsFrom",
    *,
    out: Path,
    options: "JobOptions",
    quiet: bool = False,
    as_json: bool = False,
    no_cache: bool = False,
    **settings: Any,
) -> bool:
    """Run a job and print its summary; True if all went well.

    Args:
        inputs: files, folders, globs and streams.
        regions_from: where their regions come from.
        out: folder of the results.
        options: what to write.
        quiet: print errors only.
        as_json: print the summary as JSON.
        no_cache: encode words anew.
        settings: arguments of `RegionClassifier`; None stands for its default.
    """
    from atas_deploy.media.sources import find_sources
    from atas_deploy.runtime.region_job import RegionJob, refuse_early
    from atas_deploy.runtime.regions import RegionClassifier

    started = time.monotonic()
    progress = make_progress(quiet=quiet)
    refuse_early(out, regions_from, force=options.force)
    found = find_sources(inputs, exclude=out)
    classifier = RegionClassifier(
        **{name: value for name, value in settings.items() if value is not None},
        cache=not no_cache,
        progress=PromptProgress(progress),
        tell=None if quiet else say,
    )
    if not quiet:
        announce(classifier, regions_from)
    job = RegionJob(classifier, regions_from, out, progress=progress, options=options)
    tally = job.run(found, inputs=inputs)
    complain(tally)
    if as_json:
        click.echo(to_json(tally, classifier, out, time.monotonic() - started))
    elif not quiet:
        click.echo(conclude(tally, out))
    return tally.complete

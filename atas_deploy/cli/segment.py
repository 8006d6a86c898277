"""`atas-deploy segment`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.sections import SectionCommand
from atas_deploy.cli.segment_options import OPTIONS, options
from atas_deploy.cli.segment_report import announce, complain, conclude, remark, to_json
from atas_deploy.core.errors import BackendError, OutputError

if TYPE_CHECKING:
    from atas_deploy.runtime.job import SegmentJob
    from atas_deploy.runtime.options import JobOptions


@click.command(cls=SectionCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@options(*OPTIONS)
@click.pass_context
def segment(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    *,
    out: Path,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Segment images and videos by words.

    INPUT is an image, a video, a folder, a glob, a stream's address or camera:0. Results: a palette
    PNG label map and an overlay for an image, an H.264 overlay for a video, and results.jsonl and
    run.json for all.

    Exit code: 0 all done, 1 something failed, 2 wrong usage or refused, 130 Ctrl-C, 143 SIGTERM.
    """
    options = _job_options(settings)
    failed = run_segment(inputs, out=out, options=options, quiet=quiet, as_json=as_json, **settings)
    ctx.exit(1 if failed else 0)


def _job_options(settings: dict[str, Any]) -> "JobOptions":
    """Move the options of the job out of all settings."""
    from atas_deploy.media.shards import parse_shard
    from atas_deploy.runtime.options import JobOptions

    settings["overlay"] = not settings.pop("no_overlay")
    settings["npz"] = settings.pop("save") == "npz"
    if settings["shard"] is not None:
        settings["shard"] = parse_shard(settings["shard"])
    names = [field.name for field in fields(JobOptions)]
    return JobOptions(**{name: settings.pop(name) for name in names})


def run_segment(
    inputs: Sequence[str],
    *,
    out: Path,
    options: "JobOptions",
    quiet: bool = False,
    as_json: bool = False,
    no_cache: bool = False,
    ray: int | None = None,
    **settings: Any,
) -> bool:
    """Run a job and print its summary; True if anything failed.

    Args:
        inputs: files, folders, globs and streams.
        out: folder of the results.
        options: what to write.
        quiet: print errors only.
        as_json: print the summary as JSON.
        no_cache: encode words anew.
        ray: workers of a Ray cluster to share the work among; 0 = one a machine, or a GPU; None =
            do it here.
        settings: arguments of `Segmenter`; None stands for its default.
    """
    from atas_deploy.media.sources import find_sources
    from atas_deploy.runtime.job import SegmentJob
    from atas_deploy.runtime.run_files import RunFiles
    from atas_deploy.runtime.segment import Segmenter
    from atas_deploy.runtime.start import refuse_early

    started = time.monotonic()
    progress = make_progress(quiet=quiet)
    files = RunFiles(out, options.shard)
    refuse_early(files, options)
    model = {name: value for name, value in settings.items() if value is not None}
    model |= {"cache": not no_cache, "probability": options.npz}
    make_job = SegmentJob if ray is None else _ray_job(ray, inputs, options, model)
    found = find_sources(inputs, exclude=out, shard=options.shard)
    segmenter = Segmenter(**model, progress=PromptProgress(progress), tell=None if quiet else say)
    if not quiet:
        announce(segmenter)
    job = make_job(segmenter, out, progress=progress, options=options)
    try:
        tally = job.run(found, inputs=inputs)
    except (KeyboardInterrupt, SystemExit, OutputError, BackendError):
        if files.exists():
            say(f"Stopped: the same command with --resume goes on in {out}.")
        raise
    complain(tally, out)
    if not quiet:
        remark(tally, segmenter)
    if as_json:
        _print(to_json(tally, segmenter, options, out, time.monotonic() - started))
    elif not quiet:
        _print(conclude(tally, out))
    return bool(tally.failed)


def _ray_job(
    workers: int, inputs: Sequence[str], options: "JobOptions", model: dict[str, Any]
) -> "Callable[..., SegmentJob]":
    """Refuse what cannot be done with Ray; return what makes a job of the workers."""
    from atas_deploy.runtime.ray_job import RayJob, refuse_early

    gpu = refuse_early(inputs, options, backend=model["backend"], device=model.get("device"))
    return partial(RayJob, workers=workers, gpu=gpu, model=model)


def _print(text: str) -> None:
    """Print on standard output; a closed pipe is click's matter."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OutputError(
            f"Cannot write to standard output ({exc.strerror}): the results are complete; free "
            "some space or redirect it elsewhere."
        ) from exc

"""`atas-deploy segment`."""

import json
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.sections import SectionCommand
from atas_deploy.cli.segment_options import segment_options
from atas_deploy.core.errors import BackendError, OutputError

if TYPE_CHECKING:
    from atas_deploy.runtime.options import JobOptions
    from atas_deploy.runtime.segment import Segmenter
    from atas_deploy.runtime.tally import Tally


@click.command(cls=SectionCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@segment_options
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
        settings: arguments of `Segmenter`; None stands for its default.
    """
    from atas_deploy.media.sources import find_sources
    from atas_deploy.runtime.job import SegmentJob
    from atas_deploy.runtime.lock import locked
    from atas_deploy.runtime.run_files import RunFiles
    from atas_deploy.runtime.segment import Segmenter
    from atas_deploy.runtime.start import refuse_overwrite

    started = time.monotonic()
    progress = make_progress(quiet=quiet)
    files = RunFiles(out, options.shard)
    if files.exists():  # ask before thousands of words are encoded
        with locked(files):
            refuse_overwrite(files, options)
    found = find_sources(inputs, exclude=out, shard=options.shard)
    segmenter = Segmenter(
        **{name: value for name, value in settings.items() if value is not None},
        cache=not no_cache,
        probability=options.npz,
        progress=PromptProgress(progress),
        tell=None if quiet else say,
    )
    if not quiet:
        _announce(segmenter)
    job = SegmentJob(segmenter, out, progress=progress, options=options)
    try:
        tally = job.run(found, inputs=inputs)
    except (KeyboardInterrupt, SystemExit, OutputError, BackendError):
        if files.exists():
            say(f"Stopped: the same command with --resume goes on in {out}.")
        raise
    _complain(tally, out)
    if as_json:
        _print(_to_json(tally, segmenter, options, out, time.monotonic() - started))
    elif not quiet:
        _print(_conclusion(tally, out))
    return bool(tally.failed)


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


def _to_json(
    tally: "Tally", segmenter: "Segmenter", options: "JobOptions", out: Path, seconds: float
) -> str:
    from atas_deploy.runtime.derived import format_files

    summary = {
        "out": str(out),
        "complete": not tally.failed,
        **tally.counts(),
        "seconds": round(seconds, 3),
        "failures": tally.failures,
        "formats": format_files(options.formats),
        "classes": tally.classes(segmenter.vocabulary.names),
    }
    return json.dumps(summary, indent=2)


def _announce(segmenter: "Segmenter") -> None:
    from atas_deploy.core.classes import list_names

    vocabulary, manifest = segmenter.vocabulary, segmenter.bundle.manifest
    say(
        f"{manifest.name} ({manifest.readout}, short side {segmenter.short_side}) on "
        f"{segmenter.backend.device}; {_count(len(vocabulary.classes), 'class', 'classes')} "
        f"against {_count(len(vocabulary.background), 'background word', 'background words')} "
        f"({vocabulary.rule})"
    )
    if segmenter.preset:
        say(_settings(segmenter))
    if vocabulary.removed:
        removed = ", ".join(vocabulary.removed)
        say(f"left out of the background, as your classes cover them: {removed}")
    for name in set(list_names()) & {name.casefold() for name in vocabulary.names}:
        say(f'"{name}" is a word here; the list of that name is @{name}')
    if segmenter.cache_problem:
        say(segmenter.cache_problem)


def _settings(segmenter: "Segmenter") -> str:
    """The settings in use under a preset, given ones included, in one line."""
    protocol = segmenter.protocol
    row = f" for @{segmenter.row}" if segmenter.row else ""
    parts = [
        f"read-out {segmenter.bundle.manifest.readout}",
        f"short side {segmenter.short_side}",
        _describe_windows(segmenter),
        f"scale {segmenter.logit_scale:g}",
        f"templates {segmenter.templates.name}",
        f"{len(segmenter.vocabulary.queries)} words",
        f"background {segmenter.vocabulary.rule}",
        f"threshold {protocol.threshold:g}" if protocol.threshold else "no threshold",
        f"refine {protocol.refine}",
        f"denoise {protocol.denoise:g}" if protocol.denoise else "no denoising",
    ]
    return f"preset {segmenter.preset}{row}: {', '.join(parts)}"


def _describe_windows(segmenter: "Segmenter") -> str:
    protocol = segmenter.protocol
    if protocol.window is None:
        return "whole pictures"
    stride = protocol.stride or protocol.window // 2
    return f"windows of {protocol.window} every {stride} pixels merged as {protocol.merge}"


def _conclusion(tally: "Tally", out: Path) -> str:
    before = f", {tally.resumed} of them before" if tally.resumed else ""
    return (
        f"{tally.inputs - tally.failed} of {_count(tally.inputs, 'input', 'inputs')} segmented "
        f"into {out}{_slash(out)}{before}"
    )


def _complain(tally: "Tally", out: Path) -> None:
    for failure in tally.failures:
        say(f"Error: {failure['error']}")
    if more := tally.failed - len(tally.failures):
        say(f"Error: {more} more; see {out}{_slash(out)}results.jsonl")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _slash(path: Path) -> str:
    return "" if str(path).endswith("/") else "/"

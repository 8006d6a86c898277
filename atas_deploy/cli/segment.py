"""`atas-deploy segment`."""

from pathlib import Path
from typing import Any

import click

from atas_deploy.cli.progress import make_progress, printable


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-c",
    "--classes",
    required=True,
    help='Words to find: "dog|puppy,grass" (| joins synonyms), or @names.txt, one class a line.',
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=True),
    default=Path("atas-out"),
    show_default=True,
    help="Folder of the results.",
)
@click.option(
    "--background",
    default="auto",
    show_default=True,
    help="What else may be there: auto (a list of generic words), none (every pixel gets a "
    'class), or words such as "road,wall".',
)
@click.option(
    "--threshold", type=click.FloatRange(0, 1), help="Pixels below this probability are background."
)
@click.option("--model", default="atas-tiny", show_default=True, help="Name or bundle folder.")
@click.option("--backend", default="ort", show_default=True, help="Inference engine: ort.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option(
    "--short-side",
    type=click.IntRange(min=1),
    help="Encoder input in pixels.  [default: the model's]",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Images at once."
)
@click.option("--max-frames", type=click.IntRange(min=1), help="Stop each video after N frames.")
@click.option(
    "--opacity", type=click.FloatRange(0, 1), default=0.55, show_default=True, help="Of overlays."
)
@click.option("--force", is_flag=True, help="Replace results that exist.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.pass_context
def segment(ctx: click.Context, /, inputs: tuple[str, ...], **options: Any) -> None:
    """Segment images and videos by words.

    INPUT is an image, a video, a folder or a glob. Results: a palette PNG label map and an overlay
    for an image, an H.264 overlay for a video, and results.jsonl and run.json for all.
    """
    failed = run_segment(inputs, **options)
    ctx.exit(1 if failed else 0)


def run_segment(
    inputs: tuple[str, ...],
    *,
    out: Path,
    force: bool,
    quiet: bool,
    max_frames: int | None,
    opacity: float,
    **settings: Any,
) -> bool:
    """Run a job and print its summary; True if an input could not be read."""
    from atas_deploy.media.sources import find_sources
    from atas_deploy.runtime.job import SegmentJob
    from atas_deploy.runtime.segment import Segmenter

    found = find_sources(inputs, exclude=out)
    segmenter = Segmenter(**settings)
    if not quiet:
        _announce(segmenter)
    job = SegmentJob(
        segmenter,
        out,
        progress=make_progress(quiet=quiet),
        opacity=opacity,
        max_frames=max_frames,
        force=force,
    )
    report = job.run(found.sources, problems=found.problems)
    done = len(report.inputs) - len(report.failed)
    if not quiet:
        click.echo(f"{done} of {len(report.inputs)} inputs segmented into {out}{_slash(out)}")
    for entry in report.failed:
        click.echo(f"Error: {printable(entry['error'])}", err=True)
    return bool(report.failed)


def _announce(segmenter: Any) -> None:
    vocabulary, manifest = segmenter.vocabulary, segmenter.bundle.manifest
    click.echo(
        f"{manifest.name} ({manifest.readout}, short side {segmenter.short_side}) on "
        f"{segmenter.backend.device}; {_count(len(vocabulary.classes), 'class', 'classes')} "
        f"against {_count(len(vocabulary.background), 'background word', 'background words')} "
        f"({vocabulary.rule})",
        err=True,
    )
    if vocabulary.removed:
        click.echo(
            f"left out of the background, as your classes cover them: "
            f"{', '.join(vocabulary.removed)}",
            err=True,
        )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _slash(path: Path) -> str:
    return "" if str(path).endswith("/") else "/"

"""`atas-deploy bench`."""

import errno
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.progress import make_progress

if TYPE_CHECKING:
    from atas_deploy.core.geometry import Size

_HEIGHTS = {"720p": (720, 1280), "1080p": (1080, 1920), "2160p": (2160, 3840)}
_LEAST, _MOST = 16, 8192  # pixels of a side of the frames that are made
_TARGET = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_DASH = Path("-")


def parse_size(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list["Size"]:
    """Heights and widths of "720p", "1080p", "2160p" or "HxW".

    Raises:
        BadParameter: one is no size, or too small or too large for a video.
    """
    sizes = []
    for text in texts:
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
        size = (int(match[1]), int(match[2])) if match else _HEIGHTS.get(text, (0, 0))
        if min(size) < _LEAST or max(size) > _MOST:
            raise click.BadParameter(
                f"{text!r} is no size; write {', '.join(_HEIGHTS)} or HxW, at least "
                f"{_LEAST}x{_LEAST} and at most {_MOST}x{_MOST}."
            )
        sizes.append(size)
    return sizes


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--backend",
    "backends",
    type=click.Choice(["ort", "trt"]),
    multiple=True,
    default=["ort"],
    show_default=True,
    help="Inference engine; repeat.",
)
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:N.  [default: cpu, for trt cuda]")
@click.option(
    "--short-side",
    "short_sides",
    metavar="PIXELS",
    type=click.IntRange(min=1),
    multiple=True,
    help="Shorter side of the encoder's input; repeat.  [default: the model's]",
)
@click.option(
    "--batch-size",
    "batch_sizes",
    metavar="N",
    type=click.IntRange(min=1),
    multiple=True,
    default=[1],
    show_default=True,
    help="Frames encoded at once; repeat.",
)
@click.option(
    "--words",
    metavar="N",
    type=click.IntRange(min=2),
    multiple=True,
    default=[150],
    show_default=True,
    help="How many words of @lvis; repeat.",
)
@click.option(
    "--video",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Measure on this video.  [default: a pan over a photo]",
)
@click.option(
    "--size",
    "sizes",
    metavar="SIZE",
    multiple=True,
    callback=parse_size,
    help="Of the frames that are made: 720p, 1080p, 2160p or HxW; repeat.  [default: 720p]",
)
@click.option(
    "--frames",
    metavar="N",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Frames of the video in each turn.",
)
@click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Turns of each contender.",
)
@click.option(
    "--plain/--no-plain",
    default=True,
    show_default=True,
    help="Measure plain PyTorch beside it.",
)
@click.option(
    "--adaptive",
    metavar="LEVEL",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    help="Also measure `segment --adaptive LEVEL` against all frames; repeat.",
)
@click.option("--json", "as_json", metavar="FILE", type=_TARGET, help="Write JSON; - = print it.")
@click.option(
    "--markdown",
    metavar="FILE",
    type=_TARGET,
    help="Write the tables; - = print them.  [default: - unless JSON is printed]",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    *,
    video: Path | None,
    sizes: list["Size"],
    as_json: Path | None,
    markdown: Path | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Measure what a segmentation costs, stage by stage and end to end.

    MODEL is what `segment --model` takes, atas-tiny if none is given. Every combination of the
    options is a row. Exit code: 0 all measured, 1 a row is an error, 2 wrong usage.
    """
    if video is not None and sizes:
        raise click.UsageError("--size is that of the video that is made; leave out it or --video.")
    if as_json == markdown == _DASH:
        raise click.UsageError("--json - and --markdown - cannot both be printed; name a file.")
    if markdown is None and as_json != _DASH:
        markdown = _DASH
    for target in (as_json, markdown):
        check_target(target)
    report = run(models, video=video, sizes=sizes, quiet=quiet, **settings)
    write_report(report, as_json=as_json, markdown=markdown)
    ctx.exit(1 if any("error" in row for row in report["rows"]) else 0)


def run(  # noqa: PLR0913
    models: tuple[str, ...],
    *,
    backends: tuple[str, ...],
    device: str | None,
    short_sides: tuple[int, ...],
    batch_sizes: tuple[int, ...],
    words: tuple[int, ...],
    video: Path | None,
    sizes: list["Size"],
    frames: int,
    rounds: int,
    plain: bool,
    adaptive: tuple[float, ...],
    quiet: bool,
) -> dict[str, Any]:
    """Measure; the arguments are the options."""
    from atas_deploy.bench.plan import Effort, cases_of
    from atas_deploy.bench.run import run_bench
    from atas_deploy.bench.words import lvis

    for count in words:
        lvis(count)
    cases = cases_of(
        models=models or ("atas-tiny",),
        backends=backends,
        device=device,
        short_sides=short_sides or (None,),
        sizes=[None] if video else sizes or [_HEIGHTS["720p"]],
        batch_sizes=batch_sizes,
        words=words,
    )
    effort = Effort(frames=frames, rounds=rounds, plain=plain, adaptive=adaptive)
    return run_bench(cases, effort, video=video, progress=make_progress(quiet=quiet))


def check_target(path: Path | None) -> None:
    """Refuse a file that cannot be written, before the work of filling it.

    Raises:
        OutputError: its folder is missing or may not be written.
    """
    from atas_deploy.core.files import check_writable, output_error

    if path in (None, _DASH):
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise output_error(path, FileNotFoundError(errno.ENOENT, "no folder"))
    check_writable(folder)


def write_report(report: dict[str, Any], *, as_json: Path | None, markdown: Path | None) -> None:
    """Print or write the report; a file appears whole.

    Raises:
        OutputError: it cannot be written.
    """
    from atas_deploy.bench.table import to_markdown
    from atas_deploy.core.files import atomic_path

    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    for path, content in ((as_json, text), (markdown, to_markdown(report))):
        if path == _DASH:
            click.echo(content, nl=False)
        elif path is not None:
            with atomic_path(path) as part:
                part.write_text(content, encoding="utf-8")

"""`atas-deploy visualize`."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.progress import PromptProgress, make_progress, say
from atas_deploy.cli.sections import SectionCommand
from atas_deploy.cli.visualize_options import visualize_options
from atas_deploy.core.errors import ConfigError

if TYPE_CHECKING:
    from atas_deploy.runtime.visual.job import Shown, VisualOptions


@click.command(cls=SectionCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@visualize_options
@click.pass_context
def visualize(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    *,
    out: Path,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Show what dense features know: clusters, main components, similarity, words.

    INPUT is an image, a video (one frame is shown), a folder or a glob. Results: a PNG with all
    maps, a row for each model, and an HTML page where a click on a patch shows what is like it.

    Exit code: 0 all done, 1 something failed, 2 wrong usage or refused, 130 Ctrl-C, 143 SIGTERM.
    """
    from atas_deploy.runtime.visual.job import VisualOptions
    from atas_deploy.runtime.visual.kinds import KINDS

    if settings["kinds"] is None:
        settings["kinds"] = KINDS
    elif "words" in settings["kinds"] and settings["classes"] is None:
        raise ConfigError("Got --kind words without words; name some with --classes.")
    settings["page"] = not settings.pop("no_page")
    names = ("kinds", "scores", "opacity", "point", "time", "separate", "page", "force")
    options = VisualOptions(**{name: settings.pop(name) for name in names})
    started = time.monotonic()
    shown = _run(inputs, out=out, options=options, quiet=quiet, **settings)
    for failure in shown.failures:
        say(f"Error: {failure['error']}")
    if as_json:
        click.echo(_to_json(shown, out, time.monotonic() - started))
    elif not quiet:
        click.echo(_conclude(shown, out))
    ctx.exit(1 if shown.failures else 0)


def _run(
    inputs: Sequence[str],
    *,
    out: Path,
    options: "VisualOptions",
    quiet: bool,
    no_cache: bool,
    **settings: Any,
) -> "Shown":
    """Refuse what can be refused early, open the models, show the sources."""
    from atas_deploy.media.sources import find_sources
    from atas_deploy.runtime.visual.job import refuse_existing, show_all
    from atas_deploy.runtime.visual.viewer import Visualizer

    progress = make_progress(quiet=quiet)
    found = find_sources(inputs, exclude=out)
    refuse_existing(found, out, options)
    visualizer = Visualizer(
        **{name: value for name, value in settings.items() if value is not None},
        cache=not no_cache,
        progress=PromptProgress(progress),
        tell=None if quiet else say,
    )
    if not quiet:
        say("; ".join(visualizer.names))
    shown = show_all(visualizer, found, out, options=options, progress=progress)
    if not quiet:
        for note in shown.notes:
            say(note)
    return shown


def _conclude(shown: "Shown", out: Path) -> str:
    """The last line of a run."""
    done = len(shown.pictures)
    total = done + len(shown.failures)
    pages = [file for entry in shown.pictures for file in entry["files"] if file.endswith(".html")]
    hint = f"; open {out / pages[0]} in a browser" if pages else ""
    return f"{done} of {total} {'input' if total == 1 else 'inputs'} shown in {out}{hint}"


def _to_json(shown: "Shown", out: Path, seconds: float) -> str:
    summary = {
        "out": str(out),
        "complete": not shown.failures,
        "seconds": round(seconds, 3),
        "pictures": shown.pictures,
        "failures": shown.failures,
        "notes": shown.notes,
    }
    return json.dumps(summary, indent=2)

"""What the tasks of `eval` share: options of the report, and the way from a task to it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import click

from atas_deploy.cli.progress import make_progress, say
from atas_deploy.cli.sections import add_options, section
from atas_deploy.core.errors import ConfigError

if TYPE_CHECKING:
    from atas_deploy.evaluation.task import Report, Task

_report = section("Report")

_REPORT_OPTIONS = [
    _report(
        "-o",
        "--out",
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        help="Also write the report there: JSON, Markdown, and what `eval compare` reads.",
    ),
    _report("--force", is_flag=True, help="Replace a report that exists."),
    _report(
        "--replicates",
        metavar="N",
        type=click.IntRange(min=100),
        default=1000,
        show_default=True,
        help="How often the bootstrap draws the images anew for the intervals.",
    ),
    _report(
        "--seed",
        metavar="N",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of everything that is drawn.",
    ),
    _report("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    _report("-q", "--quiet", is_flag=True, help="Print the report and errors only."),
]


report_options = add_options(*_REPORT_OPTIONS)
"""Gives a command the options of the report; `take_report` finds them among its settings."""


@contextmanager
def hold(out: Path | None, *, force: bool, name: str) -> Iterator[None]:
    """Have a folder for a report to oneself.

    Args:
        out: the folder; None = there is no report to write.
        force: whether a report there may be replaced.
        name: file that tells of a report.

    Raises:
        ConfigError: a report is there already, another run writes there, or it is no folder.
        OutputError: the folder cannot be written.
    """
    from atas_deploy.core.files import check_writable
    from atas_deploy.runtime.lock import locked
    from atas_deploy.runtime.run_files import RunFiles

    if out is None:
        yield
        return
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; expected a folder for the report, new or old.")
    check_writable(out)
    with locked(RunFiles(out)):
        check_free(out, force=force, name=name)
        yield


def check_free(out: Path, *, force: bool, name: str) -> None:
    """Refuse to replace a report unasked.

    Raises:
        ConfigError: one is there.
    """
    if not force and (out / name).exists():
        raise ConfigError(
            f"{out / name} exists already; replace it with --force, or choose another folder with "
            "--out."
        )


class ReportOptions(TypedDict):
    """What the options of the report say."""

    out: Path | None
    force: bool
    replicates: int
    seed: int
    as_json: bool
    quiet: bool


def take_report(settings: dict[str, Any]) -> ReportOptions:
    """Take what the options of the report say out of all settings of a command."""
    return ReportOptions(
        out=settings.pop("out"),
        force=settings.pop("force"),
        replicates=settings.pop("replicates"),
        seed=settings.pop("seed"),
        as_json=settings.pop("as_json"),
        quiet=settings.pop("quiet"),
    )


def run_evaluation(make_task: "Callable[[], Task]", **options: Unpack[ReportOptions]) -> "Report":
    """Run a task, write its report and print it.

    Args:
        make_task: opens the model and the data; called when the folder is known to be free.
        options: where the report goes and how it is printed.
    """
    from atas_deploy.evaluation.page import to_markdown
    from atas_deploy.evaluation.report import REPORT, to_json, write_report
    from atas_deploy.evaluation.task import run_task

    out = options["out"]
    with hold(out, force=options["force"], name=REPORT):
        task = make_task()
        progress = make_progress(quiet=options["quiet"])
        progress.begin(task.name, total=task.total, unit=task.unit)
        try:
            report = run_task(
                task,
                advance=progress.advance,
                replicates=options["replicates"],
                seed=options["seed"],
            )
        finally:
            progress.end()
        if first := report.facts.get("first_left_out"):
            say(f"{report.facts['annotations_left_out']} annotations left out, such as: {first}")
        if options["as_json"]:
            click.echo(json.dumps(to_json(report), indent=2, ensure_ascii=False))
        else:
            click.echo(to_markdown(report), nl=False)
        if out is not None:  # after the page: a full disk must not lose it
            write_report(out, report)
    return report

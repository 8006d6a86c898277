"""`atas-deploy eval compare`."""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from click.core import ParameterSource

from atas_deploy.cli.evaluate.common import (
    ReportOptions,
    check_free,
    hold,
    report_options,
    take_report,
)
from atas_deploy.cli.progress import say
from atas_deploy.cli.sections import SectionCommand
from atas_deploy.core.errors import ConfigError

COMPARISON, PAGE = "compare.json", "compare.md"
_WITH_VALUE = ("-o", "--out", "--replicates", "--seed")


class CompareCommand(SectionCommand):
    """Leaves what follows the name of a task to that task's command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split the arguments at the third that is no option."""
        at = _third(args)
        ctx.obj = args[at:]
        return super().parse_args(ctx, args[:at])


@click.command(cls=CompareCommand, options_metavar="[OPTIONS]")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B [TASK [OPTIONS OF THE TASK]]")
@report_options
@click.pass_context
def compare(ctx: click.Context, /, *, a: str, b: str, **settings: Any) -> None:
    """Compare two models, or two runs, by a paired bootstrap.

    A and B are folders that `eval TASK --out` wrote; or, with a TASK, models: both are measured
    with the options that follow.

    \b
    Try:  atas-deploy eval compare run-a run-b
          atas-deploy eval compare atas-tiny my-model coherence --panoptic val.json --images val/
    """  # noqa: D301  (click needs the real control character)
    from atas_deploy.evaluation.compare import compare_runs, to_json, to_markdown
    from atas_deploy.evaluation.report import write_texts

    report, task = take_report(settings), list(ctx.obj)
    if task:
        report |= _given(ctx, task)
    out = report["out"]
    with ExitStack() as stack:
        stack.enter_context(hold(out, force=report["force"], name=COMPARISON))
        folders = Path(a), Path(b)
        if task:
            place = out or Path(stack.enter_context(TemporaryDirectory(prefix="atas-deploy-")))
            folders = place / "a", place / "b"
            _measure(ctx, task, models=(a, b), folders=folders, report=report)
        found = compare_runs(*folders, replicates=report["replicates"], seed=report["seed"])
        text = json.dumps(to_json(found), indent=2, ensure_ascii=False)
        click.echo(text if report["as_json"] else to_markdown(found), nl=report["as_json"])
        if out is not None:
            write_texts(out, {PAGE: [to_markdown(found)], COMPARISON: [text + "\n"]})


def _third(args: Sequence[str]) -> int:
    """Where the third argument stands that is no option or its value; the end if there is none."""
    found, skip = 0, False
    for at, text in enumerate(args):
        if skip or text.startswith("-"):
            skip = not skip and text in _WITH_VALUE
            continue
        found += 1
        if found == 3:
            return at
    return len(args)


def _open(ctx: click.Context, task: Sequence[str], *more: str) -> click.Context:
    """Parse the options of a task as its command does, and more behind them.

    Raises:
        ConfigError: there is no such task, or its runs cannot be compared.
        UsageError: an option is wrong.
    """
    from atas_deploy.evaluation.compare import MEASURES

    name, *options = task
    group = ctx.parent.command if ctx.parent else None
    command = group.get_command(ctx, name) if isinstance(group, click.Group) else None
    if command is None or name not in MEASURES:
        raise ConfigError(
            f'"{name}" is no task whose runs can be compared; expected {", ".join(MEASURES)}.'
        )
    return command.make_context(name, [*options, *more], parent=ctx)


def _given(ctx: click.Context, task: Sequence[str]) -> ReportOptions:
    """What the options of the task say about the report.

    Raises:
        ConfigError: they name a model.
    """
    with _open(ctx, task) as opened:
        given = opened.get_parameter_source
        if given("model") == ParameterSource.COMMANDLINE:
            raise ConfigError("Got --model beside A and B, which are the models; leave it out.")
        names = ReportOptions.__annotations__
        said = {name for name in names if given(name) == ParameterSource.COMMANDLINE}
        return {name: opened.params[name] for name in said}  # type: ignore[return-value]


def _measure(
    ctx: click.Context,
    task: Sequence[str],
    *,
    models: tuple[str, str],
    folders: tuple[Path, Path],
    report: ReportOptions,
) -> None:
    """Measure both models as `eval TASK` does, each into a folder, and print nothing."""
    from atas_deploy.evaluation.report import REPORT

    for folder in folders:
        check_free(folder, force=report["force"], name=REPORT)
    flags = [f"--{name}" for name in ("force", "quiet") if report[name]]
    for model, folder in zip(models, folders, strict=True):
        if not report["quiet"]:
            say(f"{model}:")
        own = ["--model", model, "--out", str(folder), "--seed", str(report["seed"]), *flags]
        with (
            _open(ctx, task, *own, "--replicates", "100") as opened,
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
        ):
            opened.command.invoke(opened)

"""`atas-deploy eval compare`."""

import json
import os
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from atas_deploy.cli.evaluate.common import check_out, report_options
from atas_deploy.cli.sections import SectionCommand
from atas_deploy.core.errors import ConfigError

COMPARISON, PAGE = "compare.json", "compare.md"


@click.command(
    cls=SectionCommand,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.argument("task", nargs=-1, type=click.UNPROCESSED, metavar="[TASK [OPTIONS OF THE TASK]]")
@report_options
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    *,
    a: str,
    b: str,
    task: tuple[str, ...],
    out: Path | None,
    force: bool,
    replicates: int,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare two models, or two runs, by a paired bootstrap.

    A and B are folders that `eval TASK --out` wrote; or, with a TASK, models: both are measured
    with the options that follow.

    \b
    Try:  atas-deploy eval compare run-a run-b
          atas-deploy eval compare atas-tiny my-model coherence --panoptic val.json --images val/
    """  # noqa: D301  (click needs the real control character)
    from atas_deploy.evaluation.compare import compare_runs, to_json, to_markdown
    from atas_deploy.evaluation.report import write_text

    check_out(out, force=force, name=COMPARISON)
    with ExitStack() as stack:
        folders = Path(a), Path(b)
        if task:
            place = out or Path(stack.enter_context(TemporaryDirectory(prefix="atas-deploy-")))
            folders = place / "a", place / "b"
            for model, folder in zip((a, b), folders, strict=True):
                _run(ctx, task, model=model, out=folder, seed=seed, quiet=quiet)
        found = compare_runs(*folders, replicates=replicates, seed=seed)
    text = json.dumps(to_json(found), indent=2, ensure_ascii=False)
    if out is not None:
        write_text(out / PAGE, to_markdown(found))
        write_text(out / COMPARISON, text + "\n")
    click.echo(text if as_json else to_markdown(found), nl=as_json)


def _run(
    ctx: click.Context, task: tuple[str, ...], *, model: str, out: Path, seed: int, quiet: bool
) -> None:
    """Measure a model as `eval TASK` does, with the report in a folder and nothing printed."""
    from atas_deploy.evaluation.compare import TASKS

    name, *options = task
    group = ctx.parent.command if ctx.parent else None
    command = group.get_command(ctx, name) if isinstance(group, click.Group) else None
    if command is None or name not in TASKS:
        raise ConfigError(f'Unknown task "{name}"; expected one of {", ".join(TASKS)}.')
    settings = ["--model", model, "--out", str(out), "--force", "--seed", str(seed)]
    settings += ["--replicates", "100"] + (["--quiet"] if quiet else [])
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        command.main(
            [*options, *settings], prog_name=f"{ctx.command_path} {name}", standalone_mode=False
        )

"""`atas-deploy train`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.progress import make_progress, say
from atas_deploy.cli.sections import SectionCommand, add_options
from atas_deploy.cli.train_options import OPTIONS_OF_TRAIN
from atas_deploy.cli.train_report import advise, complain, conclude, show_row, way_on
from atas_deploy.core.extra import needs_extra

if TYPE_CHECKING:
    from atas_deploy.training.resolve import Run
    from atas_deploy.training.train import TrainOutcome


@click.command(cls=SectionCommand)
@add_options(*OPTIONS_OF_TRAIN)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    *,
    config: Path | None,
    out: Path | None,
    print_config: bool,
    resume: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on your own images, without labels.

    It learns to tell in parts of pictures what it tells in whole ones; with --method contrastive,
    words from captions. Ctrl-C saves.

    \b
    Try:  atas-deploy train --images photos/
          atas-deploy segment photo.jpg --classes "dog,grass" --model runs/photos

    Exit code: 0 all steps done, 1 something failed, 2 wrong usage or refused, 130 Ctrl-C, 143
    SIGTERM.
    """  # noqa: D301  (click needs the real control character)
    said = {name: value for name, value in options.items() if value not in (None, ())}
    if print_config:
        click.echo(show_config(said, config=config), nl=False)
        return
    with needs_extra("train", to="Training"):
        from atas_deploy.training.run_folder import settle
    folder, run = settle(said, config=config, out=out, resume=bool(resume))
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    outcome = run_train(run, folder=folder, resume=bool(resume), quiet=quiet or not first)
    if not first:
        ctx.exit(128 + outcome.interrupted if outcome.interrupted else 0)
    complain(outcome.broken)
    if outcome.interrupted:
        say(way_on(outcome))
        ctx.exit(128 + outcome.interrupted)
    if not quiet:
        for line in (*conclude(outcome), advise(folder)):
            click.echo(line)


def show_config(said: dict[str, Any], *, config: Path | None) -> str:
    """All options of a run as a run file, defaults among them."""
    with needs_extra("train", to="Training"):
        from atas_deploy.training.config import to_toml
        from atas_deploy.training.resolve import resolve
        from atas_deploy.training.run_folder import gather
    places, _ = gather(said, config=config)
    return to_toml(resolve(*places).values())


def run_train(run: "Run", *, folder: Path, resume: bool, quiet: bool) -> "TrainOutcome":
    """Train with a progress bar and a line for each row of the log."""
    with needs_extra("train", to="Training"):
        from atas_deploy.training.loop import Hooks
        from atas_deploy.training.train import train
    progress = make_progress(quiet=quiet)
    hooks = Hooks(
        on_start=lambda steps: progress.begin("training", total=steps, unit="step"),
        on_step=progress.advance,
        on_log=lambda row: show_row(row, progress),
    )
    try:
        return train(run, folder=folder, resume=resume, hooks=hooks, tell=progress.note)
    finally:
        progress.end()

"""`atas-deploy train`."""

import sys
from pathlib import Path
from typing import Any

import click

from atas_deploy.cli.progress import make_progress

_METHODS = ["contrastive"]
_SHOWN = 10


@click.command()
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    required=True,
    help="How to train: contrastive needs images with captions.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of images, or an uncompressed tar file.",
)
@click.option(
    "--captions",
    type=click.Path(path_type=Path),
    required=True,
    help="CSV file with the columns image and caption.",
)
@click.option(
    "-m",
    "--model",
    default="atas-tiny",
    show_default=True,
    help="Embedded model, model or bundle folder, open_clip name such as ViT-B-16/openai, or an "
    "open_clip_config.json to start from random weights.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the run."
)
@click.option("--epochs", type=float, default=1.0, show_default=True, help="Passes over the data.")
@click.option("--max-steps", type=click.IntRange(min=1), help="Optimizer steps, instead of epochs.")
@click.option("--batch-size", type=int, default=64, show_default=True, help="Pairs a step.")
@click.option("--lr", type=float, default=1e-5, show_default=True, help="Peak learning rate.")
@click.option("--weight-decay", type=float, default=0.1, show_default=True, help="On matrices.")
@click.option(
    "--layer-decay",
    type=float,
    default=1.0,
    show_default=True,
    help="Factor of the learning rate from one image block to the one below it.",
)
@click.option("--warmup-steps", type=int, help="Linear warm-up.  [default: a tenth of the steps]")
@click.option(
    "--lock-image/--unlock-image",
    default=False,
    show_default=True,
    help="Train the text tower and both projections only.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="bf16 runs matrix products in bfloat16.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all randomness."
)
@click.option("--log-every", type=int, default=10, show_default=True, help="Steps a log line.")
@click.option("--save-every", type=int, default=200, show_default=True, help="Steps a checkpoint.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder of the run.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def train(*, quiet: bool, **options: Any) -> None:
    """Train a CLIP model; Ctrl-C saves, and --resume goes on."""
    outcome = run_train(options, quiet=quiet)
    for name, reason in list(outcome.broken.items())[:_SHOWN]:
        click.echo(f"skipped {name}: {reason}", err=True)
    if len(outcome.broken) > _SHOWN:
        click.echo(f"skipped {len(outcome.broken) - _SHOWN} more images", err=True)
    if outcome.interrupted:
        click.echo(f"stopped at step {outcome.step}; go on with --resume", err=True)
        sys.exit(128 + outcome.interrupted)
    if not quiet:
        click.echo(f"{outcome.folder}: {outcome.step} steps, loss {outcome.loss:.4f}")


def run_train(options: dict[str, Any], *, quiet: bool) -> Any:
    """Import what training needs, and train."""
    from atas_deploy.core.errors import BackendUnavailableError

    try:
        from atas_deploy.training.loop import Hooks
        from atas_deploy.training.train import TrainOptions, train_contrastive
    except ModuleNotFoundError as exc:
        raise BackendUnavailableError(
            f"Training needs {exc.name}, which is not installed; "
            'run pip install "atas-deploy[train]".'
        ) from exc
    method = options.pop("method")
    assert method in _METHODS
    progress = make_progress(quiet=quiet)
    hooks = Hooks(
        on_start=lambda steps: progress.begin("training", total=steps, unit="step"),
        on_step=progress.advance,
        on_log=(lambda _: None) if quiet else _print_row,
    )
    try:
        return train_contrastive(TrainOptions(**options), hooks=hooks)
    finally:
        progress.end()


def _print_row(row: Any) -> None:
    """Print a log row on standard error, above the bar if there is one."""
    from tqdm import tqdm

    losses = ", ".join(f"{name} {row[name]:.4f}" for name in row if name not in _NOT_LOSSES)
    tqdm.write(f"step {row['step']}: {losses}, rate {row['lr']:.2e}", file=sys.stderr)


_NOT_LOSSES = ("step", "lr", "seconds")

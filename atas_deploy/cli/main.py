"""The command group: loads a command's module only when it is called."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from atas_deploy import __version__
from atas_deploy.cli.lazy import LazyCommands
from atas_deploy.cli.progress import printable
from atas_deploy.core.errors import AtasError, ConfigError


@contextmanager
def unwind_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP leave through the same clean-up as an exception, once.

    What is ignored, as SIGHUP under nohup, stays so.
    """
    leaving = False

    def leave(number: int, _: FrameType | None) -> None:
        nonlocal leaving
        if not leaving:
            leaving = True
            sys.exit(128 + number)

    names = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        previous = {number: signal.signal(number, leave) for number in numbers}
    except ValueError:  # not in the main thread: the host decides about signals
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            # until the process is gone, a second one must not spoil the exit code of the first
            signal.signal(number, signal.SIG_IGN if leaving else handler)


# command: (home, see `LazyCommands`, and one line of help shown by `atas-deploy --help`)
COMMANDS = {
    "segment": ("atas_deploy.cli.segment", "Segment images and videos by words."),
    "classify": ("atas_deploy.cli.classify", "Name boxes, masks or proposed regions by words."),
    "eval": ("atas_deploy.cli.evaluate.group:evaluate", "Measure a model; compare two."),
    "visualize": ("atas_deploy.cli.visualize", "Show what the features of a picture know."),
    "export": ("atas_deploy.cli.export", "Export a model to a verified bundle."),
    "engine": ("atas_deploy.cli.engine", "Build a TensorRT engine for a bundle."),
    "bench": ("atas_deploy.cli.bench", "Measure speed and memory, stage by stage."),
    "verify": ("atas_deploy.cli.verify", "Check a bundle, and an engine against PyTorch."),
    "train": ("atas_deploy.cli.train", "Train a model."),
    "classes": ("atas_deploy.cli.classes", "List class lists, or show the classes of one."),
    "models": ("atas_deploy.cli.models", "List models, or show and verify one."),
    "doctor": ("atas_deploy.cli.doctor", "Show versions and devices; find problems and cures."),
    "demo": ("atas_deploy.cli.demo", "Segment a sample photo and a clip."),
}


class _Refusal(click.ClickException):
    exit_code = 2


class MainGroup(LazyCommands):
    """Turns our errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; our errors become one sentence and exit code 1, Ctrl-C becomes 130.

        What cannot be used ends with 2, as wrong usage does.
        """
        try:
            with unwind_on_signals():
                return super().invoke(ctx)
        except AtasError as exc:
            refused = isinstance(exc, ConfigError)
            raise (_Refusal if refused else click.ClickException)(printable(str(exc))) from exc
        except KeyboardInterrupt:
            click.echo("Interrupted; what was written stays valid.", err=True)
            ctx.exit(128 + signal.SIGINT)


@click.group(cls=MainGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="atas-deploy")
def main() -> None:
    """Open-vocabulary segmentation with dense CLIP: train, export, run.

    \b
    Try:  atas-deploy demo
          atas-deploy segment photo.jpg --classes "sky,building,tree"
    """  # noqa: D301  (click needs the real control character)

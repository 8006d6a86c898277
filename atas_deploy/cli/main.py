"""The command group: loads a command's module only when it is called."""

from importlib import import_module
from typing import Any

import click

from atas_deploy import __version__
from atas_deploy.core.errors import AtasError

# command: (module, one line of help shown by `atas-deploy --help`)
COMMANDS = {
    "segment": ("atas_deploy.cli.segment", "Segment images and videos by words."),
    "export": ("atas_deploy.cli.export", "Export a model to a verified bundle."),
    "train": ("atas_deploy.cli.train", "Train a model."),
    "models": ("atas_deploy.cli.models", "List models, or show and verify one."),
    "doctor": ("atas_deploy.cli.doctor", "Show versions and devices; find problems and cures."),
    "demo": ("atas_deploy.cli.demo", "Segment a sample photo and clip."),
}


class LazyGroup(click.Group):
    """Knows its commands by name; imports one when it runs, none for `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn our errors into one sentence and exit code 1."""
        try:
            return super().invoke(ctx)
        except AtasError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="atas-deploy")
def main() -> None:
    """Open-vocabulary segmentation with dense CLIP: train, export, run.

    \b
    Try:  atas-deploy demo
          atas-deploy segment photo.jpg --classes "sky,building,tree"
    """  # noqa: D301  (click needs the real control character)

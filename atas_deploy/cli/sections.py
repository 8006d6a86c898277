"""Options under headings, for commands that have many."""

from collections.abc import Callable
from functools import partial
from typing import Any

import click


class SectionOption(click.Option):
    """An option that knows its heading."""

    def __init__(self, *args: Any, section: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


class SectionCommand(click.Command):
    """Shows its options by section, in the order of their first appearance."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list a section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        last = ""  # of the options without a heading: --help comes last
        for parameter in self.get_params(ctx):
            last = getattr(parameter, "section", last or "Options")
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(last, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def section(name: str) -> Callable[..., Any]:
    """A `click.option` whose options stand under a heading."""
    return partial(click.option, cls=SectionOption, section=name)


def add_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options, in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate

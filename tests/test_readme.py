"""The documents name commands and options that exist; test_docs.py looks at their links."""

import re
import shlex
from pathlib import Path

import click
import pytest

from atas_deploy.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
LINES = sorted(
    {
        match
        for path in DOCUMENTS
        for match in re.findall(
            r"(?:^    |`)(atas-deploy [a-z][^`\n>]*)", re.sub(r"\\\n", "", path.read_text()), re.M
        )
    }
)


@pytest.mark.parametrize("line", LINES)
def test_commands_exist(line: str) -> None:
    """Each `atas-deploy ...` in a document parses; files that it names need not exist."""
    _, *words = shlex.split(line, comments=True)
    command: click.Command = main
    context = click.Context(main)
    while words and isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    if words:  # else a mere mention
        command.make_context(name, words)


def test_nothing_is_left_to_fill_in() -> None:
    """No placeholder survives in a document."""
    assert not [path for path in DOCUMENTS if re.search(r"\bNUMBERS\b|TODO", path.read_text())]


@pytest.mark.parametrize(
    "target", re.findall(r"(?:    |`)make ([a-z]+)", (ROOT / "README.md").read_text())
)
def test_make_targets_exist(target: str) -> None:
    """Each `make ...` in the README is a target."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)

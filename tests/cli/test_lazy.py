"""Groups that import a command when it runs."""

import subprocess
import sys
from importlib import import_module

import click
import pytest

from atas_deploy.cli.evaluate.group import TASKS
from atas_deploy.cli.main import COMMANDS

HOMES = {**COMMANDS, **{f"eval {name}": home for name, home in TASKS.items()}}


@pytest.mark.parametrize("name", HOMES)
def test_homes_hold_commands(name: str) -> None:
    """Each home names a command."""
    module, _, attribute = HOMES[name][0].partition(":")
    found = getattr(import_module(module), attribute or name.split()[-1])
    assert isinstance(found, click.Command)


def imported_by_help(*command: str) -> str:
    """Which of NumPy and the evaluation `--help` of a command loads, in a process of its own."""
    code = (
        "import sys\nfrom atas_deploy.cli.main import main\n"
        f"try:\n    main([*{command!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(m for m in sys.modules if m == 'numpy' or m.startswith('atas_deploy.eval')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-1]


def test_help_of_retrieval_imports_no_numpy() -> None:
    """What it lets one choose is written out."""
    assert imported_by_help("eval", "retrieval") == "[]"


def test_help_imports_no_command() -> None:
    """`atas-deploy eval --help` loads neither the tasks nor NumPy."""
    assert imported_by_help("eval") == "[]"

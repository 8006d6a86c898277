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


def test_help_imports_no_command() -> None:
    """`atas-deploy eval --help` loads neither the tasks nor NumPy."""
    code = (
        "import sys\nfrom atas_deploy.cli.main import main\n"
        "try:\n    main(['eval', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(m for m in sys.modules if m == 'numpy' or m.startswith('atas_deploy.eval')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"

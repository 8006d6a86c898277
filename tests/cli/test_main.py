"""The command group: quick start, help everywhere, one sentence for mistakes."""

import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from atas_deploy import __version__
from atas_deploy.cli.main import COMMANDS, main, unwind_on_signals


def test_help_imports_nothing_heavy() -> None:
    """`--help` must stay under 0.3 s: it may not import torch, numpy, cv2 or an engine."""
    code = (
        "import sys; from click.testing import CliRunner; from atas_deploy.cli.main import main;"
        "result = CliRunner().invoke(main, ['--help']); assert result.exit_code == 0, result;"
        "heavy = {'torch', 'onnxruntime', 'numpy', 'cv2', 'av', 'PIL'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    """`COMMAND --help` works."""
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"Usage: main {command}" in result.output


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_of_commands_is_light(command: str) -> None:
    """A command's module imports its library only when it runs."""
    module = COMMANDS[command][0].partition(":")[0]
    heavy = {"torch", "onnxruntime", "numpy", "cv2", "av", "PIL"}
    code = f"import sys, {module}; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version() -> None:
    """`--version` prints the package's version."""
    assert __version__ in CliRunner().invoke(main, ["--version"]).output


def test_unknown_command_is_a_usage_error() -> None:
    """Exit code 2, as for any usage error."""
    assert CliRunner().invoke(main, ["segmnt"]).exit_code == 2


def test_models_lists_and_verifies() -> None:
    """The embedded model is listed; `--verify` checks its files."""
    result = CliRunner().invoke(main, ["models", "atas-tiny", "--verify"])
    assert result.exit_code == 0
    assert "verified" in result.output


def test_models_json() -> None:
    """`--json` prints the manifest."""
    result = CliRunner().invoke(main, ["models", "--json"])
    assert '"readout"' in result.output


def test_doctor_reports_a_healthy_machine() -> None:
    """No problems in the test environment."""
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "no problems found" in result.output


def test_doctor_names_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ONNX Runtime packages at once are a problem with a cure."""
    monkeypatch.setattr("atas_deploy.cli.doctor._version", lambda name: "1.0")
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in result.output


def test_module_is_the_command() -> None:
    """`python -m atas_deploy` for where scripts are not on the path."""
    run = subprocess.run(
        [sys.executable, "-m", "atas_deploy", "--version"], check=True, capture_output=True
    )
    assert run.stdout.startswith(b"atas-deploy, version ")


def test_nohup_outlives_its_terminal() -> None:
    """A SIGHUP that is ignored stays so; one that is not ends the command with its number."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with unwind_on_signals():
            signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with pytest.raises(SystemExit, match=str(128 + signal.SIGHUP)), unwind_on_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

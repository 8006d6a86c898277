"""Work in another process: what it says, and all the ways in which it can end."""

import signal
from pathlib import Path

import pytest

from atas_deploy.core.child import ask
from atas_deploy.core.errors import AtasError, BackendError, ConfigError, ExportError

MODULE = """
import os, sys
from atas_deploy.core.child import answer
from atas_deploy.core.errors import BackendError, ConfigError

def work():
    print("noise on the standard output")
    {work}
    return {{"argument": sys.argv[1]}}

answer(work, unexpected=lambda reason: BackendError("It failed (" + reason + ")."))
"""


def broken(how: str) -> AtasError:
    """What is raised where there is no answer."""
    return ExportError(f"The child {how}.")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module to run, which the child finds as this process does."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "some_child.py"


def test_the_answer_comes_back(module: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What the work prints is not taken for it."""
    module.write_text(MODULE.format(work="pass"))
    assert ask("some_child", "a b", broken=broken) == {"argument": "a b"}
    out, err = capfd.readouterr()
    assert (out, err) == ("", "noise on the standard output\n")


@pytest.mark.parametrize(
    ("work", "error", "told"),
    [
        ("raise ConfigError('No; use another.')", ConfigError, "No; use another."),
        ("raise RuntimeError('boom. Details')", BackendError, "It failed (boom)."),
        ("os._exit(3)", ExportError, "The child broke off."),
        ("sys.exit(0)", ExportError, "The child broke off."),
        ("os.kill(os.getpid(), 11)", ExportError, f"The child was killed by signal {11}."),
        ("os.kill(os.getpid(), 9)", ExportError, "signal 9, perhaps for want of memory."),
    ],
)
def test_every_end_is_one_sentence(
    module: Path, work: str, error: type[AtasError], told: str
) -> None:
    """An error of ours, a bug, an end without a word, and native crashes."""
    assert signal.SIGSEGV == 11
    module.write_text(MODULE.format(work=work))
    with pytest.raises(error) as caught:
        ask("some_child", "x", broken=broken, quiet=True)
    assert str(caught.value).endswith(told)

"""The cache folder."""

import sys
from pathlib import Path

import pytest

from atas_deploy.core.cache import VARIABLE, cache_dir


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the caller decides."""
    for name in (VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)


def test_own_variable_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`ATAS_DEPLOY_CACHE` is the folder itself."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert cache_dir() == tmp_path


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", ".cache/atas-deploy"),
        ("darwin", "NONE", "Library/Caches/atas-deploy"),
        ("win32", "LOCALAPPDATA", "AppData/Local/atas-deploy"),
    ],
)
def test_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variable: str, expected: str
) -> None:
    """The platform's folder in the home folder, or where its variable says."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_dir() == tmp_path / expected
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    if variable != "NONE":
        assert cache_dir() == tmp_path / "elsewhere" / "atas-deploy"


def test_relative_xdg_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The XDG specification says so."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == tmp_path / ".cache" / "atas-deploy"


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home folder the error names the variable that helps."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OSError, match=VARIABLE):
        cache_dir()

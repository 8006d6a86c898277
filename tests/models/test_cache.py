"""The index of the model cache: fast, and never wrong about a file that has changed."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from atas_deploy.cli.main import main
from atas_deploy.core.errors import ConfigError, OutputError
from atas_deploy.models import ModelCache, open_model
from atas_deploy.models.sources import absolute, stamp

NAME = "small-sclip-0123"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    """A cache of its own that holds one bundle."""
    monkeypatch.setenv("ATAS_DEPLOY_CACHE", str(tmp_path / "cache"))
    cache = ModelCache()
    shutil.copytree(open_model("atas-tiny").path, cache.folder / NAME)
    return cache


@pytest.fixture
def source(cache: ModelCache, tmp_path: Path) -> Path:
    """A checkpoint that gave the bundle."""
    path = tmp_path / "epoch_5.pt"
    path.write_bytes(b"weights")
    cache.remember(str(path), "sclip", NAME, stamp(str(path)))
    return path


def test_a_source_is_known_again(
    cache: ModelCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any way of writing its path, with the same read-out only."""
    found = cache.lookup(str(source), "sclip")
    assert found is not None
    assert found.path.name == NAME
    monkeypatch.chdir(source.parent)
    assert cache.lookup("epoch_5.pt", "sclip") == found
    assert cache.lookup(str(source), None) is None
    assert cache.exported("epoch_5.pt") == [NAME]


def test_file_behind_an_architecture(
    cache: ModelCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In "ARCHITECTURE/FILE" the file is watched, wherever the command is run."""
    monkeypatch.chdir(source.parent)
    cache.remember("ViT-B-16/epoch_5.pt", None, NAME, stamp("ViT-B-16/epoch_5.pt"))
    monkeypatch.chdir("/")
    assert cache.lookup(f"ViT-B-16/{source}", None) is not None
    assert cache.lookup("ViT-B-16/epoch_5.pt", None) is None
    os.utime(source, ns=(0, 0))
    assert cache.lookup(f"ViT-B-16/{source}", None) is None


@pytest.mark.parametrize("spelling", ["./epoch_5.pt", "../{}/epoch_5.pt", "~/epoch_5.pt"])
def test_spelling_does_not_decide(
    cache: ModelCache, source: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    """Paths are the same by any spelling, alone and behind an architecture, and are watched."""
    monkeypatch.chdir(source.parent)
    monkeypatch.setenv("HOME", str(source.parent))
    spelled = spelling.format(source.parent.name)
    cache.remember(f"ViT-B-32/{spelled}", None, NAME, stamp(f"ViT-B-32/{spelled}"))
    assert cache.lookup(spelled, "sclip") is not None
    assert cache.exported(spelled) == [NAME]
    assert cache.lookup("ViT-B-32/epoch_5.pt", None) is not None
    assert cache.exported("ViT-B-32/./epoch_5.pt") == [NAME]
    source.write_bytes(b"trained again")
    assert cache.lookup(f"ViT-B-32/{spelled}", None) is None


def test_folders_by_any_spelling(
    cache: ModelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model folder may be named with a slash behind it or a dot before it."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    cache.remember("mine", None, NAME, stamp("mine"))
    assert all(cache.lookup(name, None) for name in ("mine/", "./mine", str(tmp_path / "mine")))


def test_a_file_called_like_weights_hides_none(
    cache: ModelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In "ViT-B-16/openai" a file "openai" means nothing; only checkpoints are files there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai").touch()
    assert stamp("ViT-B-16/openai") == []
    assert absolute("ViT-B-16/openai") == "ViT-B-16/openai"


@pytest.mark.parametrize("change", ["size", "time", "config", "gone"])
def test_changed_files_are_not_known(cache: ModelCache, source: Path, change: str) -> None:
    """Another size, another time, a configuration beside it, or no file at all."""
    if change == "size":
        source.write_bytes(b"more weights")
    elif change == "time":
        os.utime(source, ns=(1, 1))
    elif change == "config":
        (source.parent / "open_clip_config.json").write_text("{}")
    else:
        source.unlink()
    assert cache.lookup(str(source), "sclip") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": []}', '{"bundle": 3, "files": []}'])
def test_damaged_index_is_not_believed(cache: ModelCache, source: Path, content: str) -> None:
    """It counts as none, so that the next export writes it again."""
    (record,) = (cache.folder / ".index").glob("*.json")
    record.write_text(content)
    assert cache.lookup(str(source), "sclip") is None
    assert cache.exported(str(source)) == []


def test_damaged_bundle_is_not_used(cache: ModelCache, source: Path) -> None:
    """A bundle that lost a file, or is gone, counts as none."""
    (cache.folder / NAME / "image_encoder.onnx").unlink()
    assert cache.lookup(str(source), "sclip") is None
    shutil.rmtree(cache.folder / NAME)
    assert cache.lookup(str(source), "sclip") is None


def test_leftovers_of_a_crash_are_cleared(cache: ModelCache) -> None:
    """Part folders are never listed, and go when the cache is next written."""
    (cache.folder / f"{NAME}.0a1b.part").mkdir()
    assert cache.names() == [NAME]
    with cache.locked():
        assert not list(cache.folder.glob("*.part"))


def test_unusable_cache_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the folder should be, or no home: the cure is in the sentence."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATAS_DEPLOY_CACHE", str(tmp_path / "file"))
    with (
        pytest.raises(OutputError, match=r"Cannot write .*ATAS_DEPLOY_CACHE"),
        ModelCache().locked(),
    ):
        pass
    assert ModelCache().names() == []


def test_delete_removes_bundle_and_index(cache: ModelCache, source: Path) -> None:
    """By the name of the bundle; nothing of it stays."""
    with pytest.raises(ConfigError, match="holds no"):
        cache.delete("../cache")
    cache.delete(NAME)
    assert cache.names() == []
    assert not list(cache.folder.glob(".index/*"))
    assert cache.lookup(str(source), "sclip") is None


def test_command_lists_shows_and_deletes(cache: ModelCache, source: Path) -> None:
    """`models` knows cached bundles by name and by what they were exported from."""
    listed = CliRunner().invoke(main, ["models"]).output
    assert "atas-tiny: " in listed
    assert f"{NAME}: " in listed
    assert f"  exported from {source}\n" in listed
    shown = CliRunner().invoke(main, ["models", str(source), "--verify"]).output
    assert "read-out sclip" in shown
    assert "verified" in shown
    deleted = CliRunner().invoke(main, ["models", "--delete", str(source)])
    assert deleted.output == f"Removed {NAME}.\n"
    again = CliRunner().invoke(main, ["models", "--delete", NAME])
    assert (again.exit_code, "holds no" in again.output) == (2, True)
    assert CliRunner().invoke(main, ["models", "--delete"]).exit_code == 2


def test_a_damaged_bundle_does_not_end_the_list(cache: ModelCache) -> None:
    """The others are listed; the exit code tells."""
    (cache.folder / NAME / "manifest.json").write_text("{}")
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 1
    assert "atas-tiny: " in result.output
    assert f"{NAME}: " in result.output

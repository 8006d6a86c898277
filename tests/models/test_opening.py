"""Names become bundles, or one sentence, without torch."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from atas_deploy.core.bundle import WEIGHTS, Bundle, record_files
from atas_deploy.core.errors import CheckpointError, ConfigError
from atas_deploy.models import ModelCache, embedded_models, find_bundles, open_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    """A cache of its own that holds one bundle, "small-sclip-0123"."""
    monkeypatch.setenv("ATAS_DEPLOY_CACHE", str(tmp_path / "cache"))
    cache = ModelCache()
    shutil.copytree(open_model("atas-tiny").path, cache.folder / "small-sclip-0123")
    return cache


def test_embedded_model_with_its_own_readout() -> None:
    """Nothing is exported when the bundle is there already."""
    bundle = open_model("atas-tiny", readout="sclip")
    assert bundle == open_model("atas-tiny") == open_model(bundle, readout="sclip")
    assert embedded_models() == ["atas-tiny"]


@pytest.mark.parametrize(
    "name", ["", "atas", "ViT", "./gone", "/gone/too", "~/x", "a/b\0", "a/b\n", "x" * 9999]
)
def test_unknown_names_cost_no_export(name: str) -> None:
    """What is neither there nor written like an open_clip name is refused at once."""
    with pytest.raises(ConfigError, match=r"(?s)Unknown model .*ViT-B-16/openai") as caught:
        open_model(name)
    assert len(str(caught.value)) < 500


def test_close_names_are_suggested(cache: ModelCache) -> None:
    """Embedded and cached names are both looked through."""
    with pytest.raises(ConfigError, match=r"did you mean atas-tiny\?"):
        open_model("atas-tny")
    with pytest.raises(ConfigError, match=r"did you mean small-sclip-0123\?"):
        open_model("smal-sclip-0123")


def test_other_readout_needs_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle without weights says what to name instead."""
    folder = Path(shutil.copytree(open_model("atas-tiny").path, tmp_path / "bare"))
    (folder / WEIGHTS).unlink()
    manifest = replace(open_model("atas-tiny").manifest, files=record_files(folder))
    (folder / "manifest.json").write_text(manifest.to_json())
    assert open_model(folder, readout="sclip").path == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_model("~/bare").path == folder
    for model in (folder, Bundle.open(folder)):
        with pytest.raises(ConfigError, match=r"read-out sclip and no weights to make \"naclip\""):
            open_model(model, readout="naclip")


def test_unknown_readouts_cost_no_export() -> None:
    """They are refused before the model is looked for."""
    with pytest.raises(ConfigError, match="'sharp' is unknown; choose one of vanilla, maskclip"):
        open_model("ViT-B-16/openai", readout="sharp")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("ViT-B-16", ConfigError, "names no weights.*ViT-B-16/FILE.*ViT-B-16/openai"),
        ("ViT-B-16/gone.pt", ConfigError, r"no file ViT-B-16/gone\.pt or gone\.pt"),
        ("/gone/too.bin", ConfigError, r"no file /gone/too\.bin;"),
        ("https://host/b32.pt", ConfigError, "is an address"),
        ("hf-hub:foo/bar baz", ConfigError, "hf-hub:ORGANISATION/REPOSITORY"),
        ("empty.pt", CheckpointError, "is empty"),
        ("ViT-B-16/empty.pt", CheckpointError, "is empty"),
        ("notes.txt", CheckpointError, "must end in one of"),
        (".", ConfigError, r"holds checkpoints.*as in ViT-B-16/empty\.pt"),
        ("sub", ConfigError, r"manifest\.json.*open_clip_config\.json"),
    ],
)
def test_what_is_no_model_costs_no_export(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: type[Exception],
    message: str,
) -> None:
    """Paths, addresses and names that cannot be models are told from models without torch."""
    (tmp_path / "empty.pt").touch()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        open_model(name)


def test_cached_bundles_have_names(cache: ModelCache) -> None:
    """The name of a cached bundle opens it."""
    assert open_model("small-sclip-0123").path == cache.folder / "small-sclip-0123"
    assert [bundle.path.name for bundle in find_bundles("small-sclip-0123")] == cache.names()


def test_models_that_were_never_exported(cache: ModelCache) -> None:
    """To look for a model exports nothing."""
    with pytest.raises(ConfigError, match="has not been exported yet"):
        find_bundles("ViT-B-16/openai")


def test_finding_an_export_needs_no_torch(cache: ModelCache) -> None:
    """A name that was exported once is opened without torch, network or lock."""
    cache.remember("ViT-B-16/openai", "sclip", "small-sclip-0123", [])
    (cache.folder / ".lock").mkdir()  # no process could hold it now
    code = (
        "import sys; from atas_deploy.models import open_model; "
        "bundle = open_model('ViT-B-16/openai', readout='sclip'); "
        "assert bundle.path.name == 'small-sclip-0123'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

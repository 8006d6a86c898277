"""`atas-deploy export` for other consumers, as a user types it."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
from click.testing import CliRunner, Result

from atas_deploy.cli.main import main
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import Bundle


def run(model: ClipModel, *arguments: str | Path) -> Result:
    """Run the command on a model folder."""
    command = ["export", "--model", model.folder, *arguments]
    return CliRunner().invoke(main, [str(argument) for argument in command])


def test_openclip_folder(model: ClipModel, tmp_path: Path) -> None:
    """It tells what was compared, and open_clip loads it."""
    result = run(model, "--format", "openclip", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    first, second = result.output.splitlines()
    assert first == f"{tmp_path / 'out'}: tiny for open_clip, weights in float32"
    assert second.startswith(f"loaded back by open_clip {open_clip.__version__}: equal weights")
    open_clip.create_model(f"local-dir:{tmp_path / 'out'}", require_pretrained=True)


def test_head_words_and_repository(model: ClipModel, tmp_path: Path) -> None:
    """All are there after one command; the bundle vouches for its own files, proof included."""
    places = ["--out", tmp_path / "b", "--triton", tmp_path / "models"]
    words = ["--head", "similarity", "--classes", "dog|puppy,grass"]
    result = run(model, *words, *places, "--triton-batch", "4")
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(tmp_path / "b")
    bundle.verify()
    assert {"similarity.onnx", "words.json", "words.f32"} < set(bundle.manifest.files)
    stages = json.loads((tmp_path / "b/parity.json").read_text())["stages"]
    assert stages[-1]["stage"].startswith("similarity.onnx")
    rows = json.loads((tmp_path / "b/words.json").read_text())["embeddings"]["shape"]
    assert np.fromfile(tmp_path / "b/words.f32", "<f4").size == rows[0] * rows[1]
    assert "similarity head" in result.output
    assert result.output.splitlines()[-1] == (
        f"{tmp_path / 'models'}: repository for Triton, image_encoder, text_encoder, similarity; "
        "batches up to 4"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "models"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format openclip --precision fp16", "does not go with --precision fp16"),
        ("--format openclip --trt", "does not go with --trt"),
        ("--format openclip --readout sclip", "does not go with --readout"),
        ("--format openclip --patch-stride 8", "does not go with --patch-stride"),
        ("--format openclip --head similarity", "does not go with --head"),
        ("--format openclip --triton models", "does not go with --triton"),
        ("--format openclip --classes dog,cat", "does not go with --classes"),
        ("--head similarity --trt", "an engine of the image encoder without it"),
        ("--classes dog,cat", "add --head similarity"),
        ("--head similarity --classes dog,,cat|", "empty"),
        ("--triton-batch 3", "add --triton DIR"),
        ("--triton out/models", "lie in one another"),
    ],
)
def test_what_does_not_go_together(
    model: ClipModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    """One sentence and exit code 2, before anything is loaded or written."""
    monkeypatch.chdir(tmp_path)
    result = run(model, *arguments.split(), "--out", "out")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


def test_engine_that_triton_cannot_load_is_not_built(model: ClipModel, tmp_path: Path) -> None:
    """TensorRT-RTX is told apart from TensorRT before the export begins."""
    pytest.importorskip("tensorrt_rtx")
    engine = ["--trt", "--flavour", "tensorrt-rtx", "--target", "8.9"]
    result = run(model, *engine, "--triton", tmp_path / "models", "--out", tmp_path / "b")
    assert result.exit_code == 2
    assert "engines of TensorRT (not TensorRT-RTX)" in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


def test_foreign_repository_is_refused_first(model: ClipModel, tmp_path: Path) -> None:
    """A folder of somebody else's models is found before the export, which writes nothing."""
    (tmp_path / "models/other").mkdir(parents=True)
    places = ["--out", tmp_path / "b", "--triton", tmp_path / "models", "--force"]
    result = run(model, *places)
    assert result.exit_code == 1
    assert "choose another --triton" in result.output
    assert not (tmp_path / "b").exists()

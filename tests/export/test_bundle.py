"""A bundle is written whole or not at all."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.clip.manifest import encoder_settings
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import IMAGE_DATA, Bundle, FileRecord, record_files
from atas_deploy.core.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    OutputError,
    ParityError,
)
from atas_deploy.export import bundle as exporter
from atas_deploy.export.bundle import _manifest, export_bundle
from atas_deploy.export.folder import new_folder
from atas_deploy.export.towers import build_towers

OLD_MANIFEST = '{"format": "atas-deploy-bundle", "format_version": 0}'


def test_bundle_holds_everything(bundle: Bundle) -> None:
    """All files are there, recorded, and verified."""
    bundle.verify()
    assert set(bundle.manifest.files) == {
        "LICENSE-weights.txt",
        "image_encoder.cpu.onnx",
        "image_encoder.onnx",
        "image_encoder.onnx.data",
        "open_clip_config.json",
        "parity.json",
        "reference.npz",
        "text_encoder.onnx",
        "tokenizer/merges.txt.gz",
        "weights.safetensors",
    }


def test_manifest_tells_the_truth(bundle: Bundle, model: ClipModel) -> None:
    """What a runtime needs equals the model's."""
    manifest = bundle.manifest
    assert (manifest.name, manifest.readout, manifest.license) == ("tiny", "sclip", "CC0-1.0")
    assert (manifest.patch_size, manifest.embed_dim, manifest.context_length) == (16, 24, 16)
    assert manifest.logit_scale == pytest.approx(model.model.logit_scale.exp().item())
    assert (manifest.mean, manifest.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert manifest.provenance == {"license": "CC0-1.0", "images": 7}
    assert (manifest.precision, manifest.weight_storage) == ("fp32", "fp16")
    assert "torch" in manifest.tools


def test_parity_is_recorded(bundle: Bundle) -> None:
    """The proof lies in the bundle, with limits and worst values."""
    proof = json.loads((bundle.path / "parity.json").read_text())
    assert len(proof["stages"]) == 3
    limits = [stage["limits"]["image"]["max_abs"] for stage in proof["stages"]]
    assert limits == [1e-5, 1e-4, 1e-4]
    worst = proof["stages"][1]["worst"]["dense"]
    assert worst["max_abs"] < 1e-5
    assert (worst["agreement"], worst["not_finite"]) == (1.0, 0)
    assert {8, 3, 1} == {c["shape"][0] for c in proof["stages"][1]["comparisons"]}


def test_bundle_can_be_exported_again(bundle: Bundle, model: ClipModel, tmp_path: Path) -> None:
    """A bundle's weights give the same weights and, with the same read-out, the same graphs."""
    loaded = load_model(bundle.path)
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    again = export_bundle(loaded, tmp_path / "again")
    files = again.manifest.files
    for name in ("image_encoder.onnx", "text_encoder.onnx", "weights.safetensors"):
        assert files[name] == bundle.manifest.files[name]


def test_other_readout(model: ClipModel, bundle: Bundle, tmp_path: Path) -> None:
    """Another read-out is another image graph; licence and name may be given."""
    other = export_bundle(model, tmp_path / "b", readout="maskclip", license_id="MIT")
    assert (other.manifest.readout, other.manifest.license) == ("maskclip", "MIT")
    assert other.fingerprint != bundle.fingerprint
    assert other.text_fingerprint == bundle.text_fingerprint
    with pytest.raises(ConfigError, match="'sharp' is unknown"):
        export_bundle(model, tmp_path / "c", readout="sharp")


def test_graphs_that_one_file_cannot_hold(model: ClipModel, bundle: Bundle, tmp_path: Path) -> None:
    """Weights beside the graphs are recorded, verified and proved; the features are the same."""
    large = export_bundle(model, tmp_path / "a", largest_file=10_000)
    assert {"image_encoder.onnx.data", "text_encoder.onnx.data"} <= set(large.manifest.files)
    assert large.manifest.weight_storage == "fp16"
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)
    moved = Bundle.open(large.path.rename(tmp_path / "b"))
    got, expected = (OrtBackend(b).encode_images(images) for b in (moved, bundle))
    np.testing.assert_array_equal(got.dense, expected.dense)
    data = moved.path / "image_encoder.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match=r"image_encoder\.onnx\.data has changed"):
        moved.verify()


def test_other_weights_beside_an_equal_graph_are_another_model(bundle: Bundle) -> None:
    """The fingerprint, by which text features are kept, covers them."""
    prints = set()
    for digest in ("0" * 64, "1" * 64):
        files = {**bundle.manifest.files, IMAGE_DATA: FileRecord(sha256=digest, size=1)}
        prints.add(Bundle(bundle.path, replace(bundle.manifest, files=files)).fingerprint)
    assert len(prints | {bundle.fingerprint}) == 3


def test_finer_grid_and_windows_are_recorded(model: ClipModel, tmp_path: Path) -> None:
    """Stride and window are in the manifest, and a bundle exported again keeps them."""
    first = export_bundle(model, tmp_path / "a", stride=8, attention_window=2)
    manifest = first.manifest
    assert (manifest.stride, manifest.attention_window, manifest.multiple) == (8, 2, 16)
    images = np.zeros((1, 32, 48, 3), np.uint8)
    assert OrtBackend(first).encode_images(images).dense.shape == (1, 4, 6, 24)
    loaded = load_model(first.path)
    settings = encoder_settings(loaded, readout="naclip")
    assert settings == {"readout": "naclip", "stride": 8, "attention_window": 2}
    plain = encoder_settings(loaded, stride=16, attention_window=0)
    assert plain == {"readout": "sclip", "stride": 16, "attention_window": None}
    manifest = _manifest(loaded, build_towers(loaded, **plain), opset=20)
    assert (manifest.stride, manifest.attention_window, manifest.multiple) == (None, None, 16)


@pytest.mark.parametrize(("stride", "largest"), [(None, 4), (8, 8)])
def test_windows_beyond_the_trained_size_are_refused(
    model: ClipModel, tmp_path: Path, stride: int | None, largest: int
) -> None:
    """Before anything is written; the largest is told."""
    build_towers(model, "sclip", stride, largest)
    with pytest.raises(ConfigError, match=f"window is 1000 cells; expected up to {largest}"):
        export_bundle(model, tmp_path / "a", stride=stride, attention_window=1000)
    assert not list(tmp_path.iterdir())


def test_bundle_without_weights_cannot_be_exported(bundle: Bundle, tmp_path: Path) -> None:
    """Graphs alone do not make a model."""
    for name in bundle.manifest.files:
        if name != "weights.safetensors":
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes((bundle.path / name).read_bytes())
    manifest = replace(bundle.manifest, files=record_files(tmp_path))
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    with pytest.raises(CheckpointError, match="graphs only"):
        load_model(tmp_path)


def test_existing_folders_are_kept(model: ClipModel, tmp_path: Path) -> None:
    """A bundle is replaced by force only, anything else never."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/diary.txt").write_text("dear diary")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/manifest.json").write_text(OLD_MANIFEST)
    with pytest.raises(OutputError, match="is not a bundle"):
        export_bundle(model, tmp_path / "notes", force=True)
    with pytest.raises(OutputError, match="add --force"):
        export_bundle(model, tmp_path / "old")
    assert (tmp_path / "notes/diary.txt").exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_second_export_does_not_replace_the_first(tmp_path: Path, force: bool) -> None:
    """Of two into one folder at the same time, the one that ends last needs force, too."""
    refused = nullcontext() if force else pytest.raises(OutputError, match="add --force")
    with refused, new_folder(tmp_path / "out", force=force) as late:
        (late / "manifest.json").write_text(OLD_MANIFEST)
        (late / "late").touch()
        with new_folder(tmp_path / "out", force=False) as early:
            (early / "manifest.json").write_text(OLD_MANIFEST)
    assert (tmp_path / "out/late").exists() == force
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_errors_name_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    """Not the temporary one beside it, of which nothing stays."""

    def fail() -> None:
        with new_folder(tmp_path / "out", force=False) as part:
            raise OutputError(f"Cannot write {part / 'weights'}: disk full.")

    with pytest.raises(OutputError) as caught:
        fail()
    assert str(caught.value) == f"Cannot write {tmp_path / 'out' / 'weights'}: disk full."
    assert not list(tmp_path.iterdir())


def test_changed_weights_of_a_bundle_are_not_exported(bundle: Bundle, tmp_path: Path) -> None:
    """A changed byte gives no other model with the same name."""
    folder = shutil.copytree(bundle.path, tmp_path / "damaged")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match=r"weights\.safetensors has changed"):
        load_model(folder)


@pytest.mark.parametrize("manifest", ['{"name": "extension"}', "[]", "not JSON", "\0"])
def test_foreign_manifests_are_no_bundles(model: ClipModel, tmp_path: Path, manifest: str) -> None:
    """A folder with a manifest.json of something else survives --force."""
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "background.js").write_text("precious")
    with pytest.raises(OutputError, match="is not a bundle"):
        export_bundle(model, tmp_path, force=True)
    assert (tmp_path / "background.js").read_text() == "precious"


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_the_current_folder_is_kept(
    model: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """The folder that the user is in is not swapped for another one, nor is one around it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OutputError, match="holds the folder you are in"):
        export_bundle(model, Path(out), force=True)


@pytest.fixture
def no_graphs(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """Take graphs and their proof from the finished bundle, to save time."""

    def copy(folder: Path, *_: object, **__: object) -> dict[str, object]:
        for name in ("image_encoder.onnx", IMAGE_DATA, "text_encoder.onnx"):
            (folder / name).write_bytes((bundle.path / name).read_bytes())
        return {"weight_storage": "fp16", "opset": 20}

    monkeypatch.setattr(exporter, "_write_graphs", copy)


@pytest.mark.usefixtures("no_graphs")
def test_force_replaces_the_whole_bundle(model: ClipModel, tmp_path: Path) -> None:
    """Nothing of the old bundle stays, and no temporary folder."""
    out = tmp_path / "sub/out"
    out.mkdir(parents=True)
    (out / "manifest.json").write_text(OLD_MANIFEST)
    (out / "old.plan").write_text("stale")
    export_bundle(model, out, force=True).verify()
    assert not (out / "old.plan").exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.usefixtures("no_graphs")
def test_failed_proof_leaves_the_old_bundle(
    model: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a ParityError the old bundle is as it was and nothing else is there."""

    def fail(*_: object, **__: object) -> None:
        raise ParityError("no")

    first = export_bundle(model, tmp_path / "out")
    monkeypatch.setattr(exporter, "prove_graphs", fail)
    with pytest.raises(ParityError):
        export_bundle(model, tmp_path / "out", force=True)
    first.verify()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("no_graphs")
def test_unwritable_place_is_one_sentence(model: ClipModel, tmp_path: Path) -> None:
    """A file where a folder is needed is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        export_bundle(model, tmp_path / "file/out")

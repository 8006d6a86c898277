"""`atas-deploy verify` as a user types it."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.backends.trt.engines import plan_path, quarantine, save_engine, set_proven
from atas_deploy.backends.trt.key import EngineKey
from atas_deploy.cli.main import main
from atas_deploy.core.bundle import MANIFEST, REFERENCE, Bundle, record_files
from atas_deploy.core.proof import Reference, write_reference
from atas_deploy.models import open_model

SHAPES = [(1, 64, 64, 3), (2, 16, 80, 3)]


def run(*arguments: str) -> Result:
    """Call the command."""
    return CliRunner().invoke(main, ["verify", *arguments])


def record(folder: Path) -> None:
    """Write into the manifest what the files of a folder are now."""
    content = json.loads((folder / MANIFEST).read_text())
    files = {name: asdict(record) for name, record in record_files(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(content | {"files": files}))


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with a reference: what ONNX Runtime computes, which is near PyTorch's."""
    source = open_model("atas-tiny")
    folder = shutil.copytree(source.path, tmp_path_factory.mktemp("verify") / "tiny")
    backend, rng = OrtBackend(source), np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in SHAPES]
    tokens = [source.tokenizer()(["dog", "a red car"])]
    features = [backend.encode_images(batch) for batch in images]
    texts = backend.encode_texts(tokens[0])
    reference = Reference(
        images=images,
        dense=[each.dense for each in features],
        image=[each.image for each in features],
        tokens=tokens,
        texts=[texts],
        names=["dog", "car"],
        queries=texts,
    )
    write_reference(folder / REFERENCE, reference)
    record(folder)
    return folder


def test_a_sound_bundle_is_shown_with_its_figures(proved: Path) -> None:
    """Files, a row for each output, and the verdict."""
    result = run(str(proved))
    assert result.exit_code == 0, result.output
    head, titles, *rows, verdict = result.output.splitlines()
    assert head.endswith(f"fp32, {len(record_files(proved))} files as they were written")
    assert titles.split("  ")[-1].strip() == "not finite"
    assert [row.split()[0] for row in rows] == ["dense", "image", "text"]
    assert rows[0].split()[2] == "1.000000"
    assert verdict == "ort, cpu: all within the limits of fp32"


def test_json_has_everything(proved: Path) -> None:
    """Limits, worst figures and every comparison of every bundle."""
    result = run(str(proved), "--json")
    (report,) = json.loads(result.stdout)["bundles"]
    assert report["bundle"] == str(proved)
    assert report["limits"]["dense"]["max_abs"] == 1e-4
    assert report["worst"]["dense"]["agreement"] == 1.0
    assert [row["shape"] for row in report["comparisons"][::2]] == [*map(list, SHAPES), [2, 5]]
    assert report["engines"] == []


def test_wrong_features_are_one_sentence(proved: Path, tmp_path: Path) -> None:
    """An engine that computes something else: exit code 1, with figure, limit and cure."""
    folder = shutil.copytree(proved, tmp_path / "off")
    with np.load(folder / REFERENCE) as arrays:
        changed = {name: arrays[name] for name in arrays}
    changed["dense_1"] = np.flip(changed["dense_1"], axis=2)
    np.savez(folder / REFERENCE, **changed)
    record(folder)
    result = run(str(folder))
    assert result.exit_code == 1
    assert "(ort, cpu): output dense for input 2 x 16 x 80 x 3 has the maximum" in result.output
    assert result.output.count("\n") == 1


def test_a_changed_byte_is_found(proved: Path, tmp_path: Path) -> None:
    """Before anything is run."""
    folder = shutil.copytree(proved, tmp_path / "damaged")
    graph = folder / "text_encoder.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    result = run(str(folder))
    assert result.exit_code == 1
    assert "text_encoder.onnx has changed since it was written" in result.output


def test_earlier_bundles_name_the_cure(proved: Path, tmp_path: Path) -> None:
    """They have no reference."""
    folder = shutil.copytree(proved, tmp_path / "old")
    (folder / REFERENCE).unlink()
    content = json.loads((folder / MANIFEST).read_text())
    del content["files"][REFERENCE]
    (folder / MANIFEST).write_text(json.dumps(content))
    result = run(str(folder))
    assert result.exit_code == 1
    assert "export the model again" in result.output


def test_engines_are_listed(proved: Path, tmp_path: Path) -> None:
    """Proven, not proven, and in quarantine with the reason; a changed plan is damage."""
    folder = shutil.copytree(proved, tmp_path / "engines")
    bundle = Bundle.open(folder)
    keys = [
        EngineKey(graph="0", flavour="tensorrt", version=v, precision="fp32", targets=("9.0",))
        for v in ("10.1", "10.2", "10.3")
    ]
    first, second, third = (save_engine(bundle, key, key.version.encode()) for key in keys)
    set_proven(bundle, first, {})
    quarantine(bundle, second, "it gave NaN")
    result = run(str(folder))
    assert result.exit_code == 0, result.output
    states = {
        line.partition(": ")[0]: line.partition(": ")[2] for line in result.output.split("\n")
    }
    names = [f"engine {e.name}, cards of capability 9.0" for e in (first, second, third)]
    assert [states[name] for name in names] == ["proven", "it gave NaN", "not proven"]
    plan_path(bundle, third).write_bytes(b"10.4")
    result = run(str(folder))
    assert result.exit_code == 1
    assert f"{third.name}.plan is damaged" in result.output


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (["atas-tiny", "--backend", "magic"], 'Unknown backend "magic"; expected ort, trt', 2),
        (["atas-tiny", "--device", "tpu"], 'Unknown device "tpu"', 2),
        (["atas-tinny"], "did you mean atas-tiny", 2),
        ([], "Missing argument 'BUNDLE'", 2),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], told: str, code: int) -> None:
    """The cure and the exit code of what cannot be used."""
    result = run(*arguments)
    assert result.exit_code == code
    assert told in result.output


def test_it_needs_no_torch(proved: Path) -> None:
    """Neither torch nor what graphs are written with is imported."""
    script = (
        "import sys; from atas_deploy.cli.verify import open_bundles, run_verify;"
        f"(b,) = open_bundles({str(proved)!r}, backend='ort', device=None);"
        "run_verify(b, backend='ort', device=None);"
        "assert not {'torch', 'onnx', 'onnx_ir', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

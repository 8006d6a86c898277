"""`atas-deploy engine` and the options that `export --trt` shares with it."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from atas_deploy.backends.trt import machine
from atas_deploy.cli.main import main
from atas_deploy.core.bundle import EMBEDDED, MANIFEST, REFERENCE, record_files
from atas_deploy.core.proof import Reference, write_reference
from atas_deploy.models import open_model

pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the embedded bundle with a reference of one small picture, features left out."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    shutil.copytree(open_model("atas-tiny").path, folder)
    none = np.zeros((1, 0), np.float32)
    reference = Reference(
        images=[np.zeros((1, 32, 32, 3), np.uint8)],
        dense=[np.zeros((1, 2, 2, 0), np.float32)],
        image=[none],
        tokens=[np.zeros((1, 2), np.int64)],
        texts=[none],
        names=["dog"],
        queries=none,
    )
    write_reference(folder / REFERENCE, reference)
    manifest = open_model("atas-tiny").manifest
    complete = replace(manifest, files=record_files(folder))
    (folder / MANIFEST).write_text(complete.to_json())
    return folder


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests build does not depend on the machine's GPU."""
    monkeypatch.setattr(machine, "find_card", lambda: None)


def test_an_engine_of_the_embedded_model(bundle: Path) -> None:
    """What it is, for which cards and sizes, and that it was not run; then it is there."""
    arguments = ["engine", str(bundle), "--target", "8.9", "--profile", "1x32x32"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    plan, cards, proof = result.output.splitlines()
    assert plan.startswith(f"{bundle / 'engines'}/tensorrt-rtx-")
    assert "tensorrt-rtx 1." in plan
    assert " MB, built in " in plan
    assert cards == "For cards of capability 8.9; sizes 1x32x32."
    assert proof.startswith("Not proven: it has not been run.")
    assert ", was there" in CliRunner().invoke(main, arguments).output
    assert CliRunner().invoke(main, [*arguments, "--quiet"]).output == ""


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["engine", "BUNDLE", "--profile", "1x100x100"], "multiples of 16, such as 96", 2),
        (["engine", "BUNDLE", "--profile", "big"], "not of the form BxHxW", 2),
        (["engine", "BUNDLE", "--profile", "1x64x32"], r"features of (32 x 32); export the", 2),
        (["engine", "BUNDLE", "--target", "9.0"], 'cannot build for "9.0"; expected one of', 2),
        (["engine", "BUNDLE", "--builder-level", "6"], "0<=x<=5", 2),
        (["engine", "BUNDLE", "--strip-weights"], "build without --strip-weights", 1),
        (["engine", "BUNDLE", "--flavour", "tensorrt"], 'pip install "atas-deploy[trt]"', 1),
        (["engine", "atas-tiny"], "atas-deploy export --model atas-tiny --trt", 2),
        (["engine", str(EMBEDDED / "atas-tiny")], "export --model atas-tiny --trt", 2),
        (["engine", "atas-tony"], "did you mean atas-tiny", 2),
        (["export", "--target", "8.9"], "need --trt; add it, or leave them out", 2),
        (["export", "--trt", "--profile", "big"], "not of the form BxHxW", 2),
        (["export", "--trt", "--flavour", "tensorrt"], 'pip install "atas-deploy[trt]"', 1),
    ],
)
def test_mistakes_are_one_sentence(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    """The cure and an exit code; the exporter tells before it exports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    result = CliRunner().invoke(main, [str(bundle) if a == "BUNDLE" else a for a in arguments])
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())

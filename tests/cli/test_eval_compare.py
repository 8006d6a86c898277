"""`atas-deploy eval compare` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from atas_deploy.cli.main import main

FAST = ("--short-side", "64", "--no-cache", "--kinds", "boxes,stuff_masks")


@pytest.fixture(scope="module")
def folder(write_panoptic: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of a dog on grass."""
    path = tmp_path_factory.mktemp("panoptic")
    ids = np.ones((64, 96), int)
    ids[10:50, 20:70] = 2
    segments = [(1, 1, False), (2, 0, False)]
    pictures = {name: (np.roll(ids, 10 * i, 1), segments) for i, name in enumerate("abc")}
    write_panoptic(path, [("dog", True), ("grass-merged", False), ("car", True)], pictures)
    return path


def run(*args: object) -> Result:
    """Run a task of `eval`."""
    return CliRunner().invoke(main, ["eval", *map(str, args)])


def task(folder: Path) -> tuple[object, ...]:
    """The task of regions on a folder."""
    where = ("--images", folder / "images", "--panoptic", folder / "panoptic.json")
    return ("regions", *where, *FAST)


def test_a_model_equals_itself(folder: Path) -> None:
    """Both runs are made and compared; nothing else is printed."""
    result = run("compare", "atas-tiny", "atas-tiny", "--json", "--quiet", *task(folder))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["task"] == "regions"
    assert found["units"] == 3
    assert found["facts"] == {}
    assert {name: d["value"] for name, d in found["differences"].items()} == {
        f"{kind}_{score}": 0
        for kind in ("boxes", "stuff_masks")
        for score in ("top1", "top5", "accuracy")
    }


def test_options_of_both_may_be_mixed(folder: Path, tmp_path: Path) -> None:
    """Those of the report are the comparison's, wherever they stand; both reports are kept."""
    out = tmp_path / "c"
    args = ("compare", "atas-tiny", "atas-tiny", *task(folder), "--out", out, "--seed", "3")
    result = run(*args, "--replicates", "200")
    assert result.exit_code == 0, result.output
    assert "# Regions: B against A" in result.stdout
    assert {"a", "b", "compare.json", "compare.md"} < {path.name for path in out.iterdir()}
    found = json.loads((out / "compare.json").read_text())
    assert (found["replicates"], found["seed"]) == (200, 3)
    assert json.loads((out / "a" / "report.json").read_text())["bootstrap"]["seed"] == 3


def test_stored_runs_are_compared_without_their_data(folder: Path, tmp_path: Path) -> None:
    """Two runs with other words, told apart by what they were made with."""
    a, b = tmp_path / "a", tmp_path / "b"
    for out, classes in ((a, "dog,grass,car"), (b, "cow,lawn,truck")):
        words = ("--classes", classes, "--out", out, "--quiet")
        assert run(*task(folder), *words).exit_code == 0
    result = run("compare", a, b)
    assert result.exit_code == 0, result.output
    assert "| boxes_top1 |" in result.stdout
    assert "names" in result.stdout


def test_a_comparison_is_not_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    """Exit code 2 before anything runs; --force replaces."""
    args = ("compare", "atas-tiny", "atas-tiny", *task(folder), "--out", tmp_path / "c")
    assert run(*args).exit_code == 0
    refused = run(*args)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert run(*args, "--force").exit_code == 0


def test_options_of_the_task_are_the_tasks(folder: Path, tmp_path: Path) -> None:
    """Also short ones with their value attached; nothing else is made of them."""
    args = ("compare", "atas-tiny", "atas-tiny", *task(folder), "-cdog,grass,car")
    result = run(*args, "-o", tmp_path / "c")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "c" / "a" / "report.json").read_text())
    assert [line["class"] for line in report["classes"]] == ["dog", "grass"]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_runs_in_its_folders_are_not_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    """Those in a/ and b/ neither."""
    kept = tmp_path / "c" / "b" / "report.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    args = ("compare", "atas-tiny", "atas-tiny", *task(folder), "--out", tmp_path / "c")
    refused = run(*args)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert kept.read_text() == "{}"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a", "b"), "a holds no evaluation"),
        (("atas-tiny", "atas-tiny", "sweep"), '"sweep" is no task whose runs can be compared'),
        (("atas-tiny", "atas-tiny", "compare"), '"compare" is no task'),
        (("a", "b", "regions", "--images", "x", "--model", "c"), "Got --model beside A and B"),
        (("a", "b", "regions", "--no-such-option"), "No such option"),
        (("atas-tiny", "atas-tiny", "regions", "--images", "x"), "--panoptic"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(args: tuple[str, ...], message: str) -> None:
    """No traceback; the sentence names what is wrong."""
    result = run("compare", *args)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)

"""`atas-deploy bench` as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from atas_deploy.bench.stopwatch import STAGES
from atas_deploy.cli.main import main

SMALL = ("--short-side", "64", "--frames", "4", "--rounds", "1", "--words", "3", "--quiet")


def bench(*arguments: object) -> Result:
    """Call the command."""
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, dict[str, Any]]:
    """The embedded model against the baseline."""
    target = tmp_path_factory.mktemp("run") / "bench.json"
    result = bench("--size", "80x112", "--adaptive", "0.1", *SMALL, "--json", target)
    return result, json.loads(target.read_text())


def test_a_row_has_all_that_is_measured(
    run: tuple[Result, dict[str, Any]],
) -> None:
    """Real turns in real processes, with the baseline."""
    result, report = run
    assert result.exit_code == 0, result.output
    (row,) = report["rows"]
    assert [row["model"], row["precision"], row["device"]] == ["atas-tiny", "fp32", "cpu"]
    assert [row["size"], row["input"]] == [[80, 112], [64, 96]]
    assert [stage for stage in STAGES if row["stages"][stage] is None] == ["transfer"]
    assert row["frames_per_second"] > 0
    assert row["speed_up"] > 0
    assert 0 < row["memory_share"] < 1
    assert row["equal_pixels"] > 0.999
    assert row["peak_device_mb"] is None
    assert 0 < row["encoder_gflop"] < 10
    assert row["share_of_matrix_peak"] > 0
    assert row["text_encoding_s"] > 0
    (adaptive,) = row["adaptive"]
    assert [adaptive["level"], adaptive["frames"]] == [0.1, 4]
    assert report["machine"]["versions"].keys() >= {"python", "numpy", "onnxruntime", "torch", "av"}


def test_the_tables_are_printed(run: tuple[Result, dict[str, Any]]) -> None:
    """Markdown on standard output; nothing else there."""
    result, _ = run
    assert result.stdout.startswith("# atas-deploy bench")
    assert "| 1 plain |" in result.stdout
    assert "- 1, adaptive: level 0.1, frames 4, " in result.stdout


def test_what_cannot_run_is_an_error_row_and_exit_code_1(tmp_path: Path) -> None:
    """An unknown model and an engine without its GPU; the others are measured."""
    target = tmp_path / "bench.md"
    engines = ("--backend", "ort", "--backend", "trt", "--device", "cuda")
    result = bench("nothing", *engines, *SMALL, "--json", "-", "--markdown", target)
    assert result.exit_code == 1
    rows = json.loads(result.stdout)["rows"]
    assert [row["backend"] for row in rows] == ["ort", "trt"]
    assert all('Unknown model "nothing"' in row["error"] for row in rows)
    assert "- 1, nothing on ort: error: Unknown model" in target.read_text()


def test_an_engine_that_is_missing_is_an_error_row() -> None:
    """The sentence of the child, not its traceback."""
    result = bench("--backend", "trt", "--no-plain", *SMALL, "--json", "-", "--size", "80x112")
    if result.exit_code == 0:
        pytest.skip("there is a GPU with an engine")
    (row,) = json.loads(result.stdout)["rows"]
    assert row["error"].endswith(".")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "big"), "'big' is no size; write 720p"),
        (("--size", "8x900"), "at least 16x16"),
        (("--size", "99999x99999"), "at most 8192x8192"),
        (("--video", "a.mp4", "--size", "720p"), "leave out it or --video"),
        (("--json", "-", "--markdown", "-"), "cannot both be printed"),
        (("--words", "1204"), "expected 2 to 1203"),
        (("--backend", "tvm"), "'tvm' is not one of"),
    ],
)
def test_wrong_usage_is_refused_at_once(arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2, one sentence."""
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", "").split())


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    """Hours of measuring must not end so."""
    result = bench("--json", tmp_path / "missing" / "bench.json", *SMALL)
    assert result.exit_code == 1
    assert "its folder does not exist" in result.output


def test_a_video_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """One sentence of the reader."""
    result = bench("--video", tmp_path / "none.mp4", *SMALL)
    assert result.exit_code == 1
    assert "none.mp4" in result.output
    assert "Traceback" not in result.output

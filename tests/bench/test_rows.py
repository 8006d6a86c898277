"""Rows and tables, from what contenders measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.bench.plan import Case
from atas_deploy.bench.rows import Record, make_row
from atas_deploy.bench.stopwatch import STAGES
from atas_deploy.bench.table import to_markdown

CASE = Case(
    model="tiny",
    backend="ort",
    device="cpu",
    short_side=64,
    size=(720, 1280),
    batch_size=1,
    words=1_000,
)
MEGA = 2**20


def turn(*, run_s: float, encoder_ms: float, peak_mb: int = 100) -> dict[str, Any]:
    """What a turn of ten frames returns."""
    return {
        "frames": 10,
        "run_s": run_s,
        "steps": [10.0, 20.0],
        "stages": {"decode": [1.0, 3.0], "encoder": [encoder_ms]},
        "resident_bytes": 50 * MEGA,
        "peak_bytes": peak_mb * MEGA,
        "device_bytes": None,
        "size": [720, 1280],
        "input": [64, 112],
        "text_s": 0.5,
        "precision": "fp32",
        "matrix_flops": 4e9,
        "matrix_product": "fp32 by hand",
    }


def record(path: Path, labels: list[list[int]], *turns: dict[str, Any]) -> Record:
    """A contender that has had its turns."""
    np.savez(path, labels=np.array(labels, np.uint8))
    return Record(path, turns=list(turns), text_seconds=0.25, flops=10**8)


@pytest.fixture
def ours(tmp_path: Path) -> Record:
    """Three turns; the machine was busy in the second."""
    turns = [turn(run_s=s, encoder_ms=ms) for s, ms in ((1.0, 80), (4.0, 160), (1.0, 90))]
    return record(tmp_path / "ours.npz", [[1, 1, 2, 2]], *turns)


@pytest.fixture
def plain(tmp_path: Path) -> Record:
    """As busy, three times as slow, with four times the memory, and one pixel of its own."""
    turns = [turn(run_s=s, encoder_ms=90, peak_mb=400) for s in (3.0, 12.0, 3.5)]
    return record(tmp_path / "plain.npz", [[1, 1, 2, 3]], *turns)


def test_ratios_are_of_turns_of_one_round(ours: Record, plain: Record) -> None:
    """3, 3 and 3.5 times; the medians of all times would give less."""
    row = make_row(CASE, ours, plain)
    assert row["speed_up"] == 3.0
    assert row["memory_share"] == 0.25
    assert row["equal_pixels"] == 0.75
    assert row["plain"]["frames_per_second"] == round(10 / 3.5, 3)


def test_times_are_those_of_all_turns(ours: Record) -> None:
    """Stages and steps are pooled; a stage without times is null; frames count from end to end."""
    row = make_row(CASE, ours, None)
    assert row["stages"]["decode"] == {"p50": 2.0, "p95": 3.0}
    assert row["stages"]["transfer"] is None
    assert list(row["stages"]) == list(STAGES)
    assert row["end_to_end"] == {"p50": 15.0, "p95": 20.0, "mean": 100.0}
    assert row["frames_per_second"] == 10.0
    assert row["plain"] is row["speed_up"] is row["equal_pixels"] is None


def test_shares_of_the_encoder_are_medians_over_turns(ours: Record) -> None:
    """0.8, 0.4 and 0.9 of the whole way; 0.1 GFLOP in 80, 160 and 90 ms, of 4 GFLOP/s."""
    row = make_row(CASE, ours, None)
    assert row["encoder_over_end_to_end"] == 0.8
    assert row["share_of_matrix_peak"] == round(0.1 / 0.09 / 4, 3)
    assert row["encoder_gflop"] == 0.1


def test_uncounted_operations_are_null(ours: Record) -> None:
    """Without PyTorch there is no share, but all else."""
    ours.flops = None
    row = make_row(CASE, ours, None)
    assert row["share_of_matrix_peak"] is row["encoder_gflop"] is None
    assert row["matrix_peak_gflops"] == 4.0


def test_a_baseline_that_could_not_run_is_left_out(ours: Record, plain: Record) -> None:
    """Said in the row, which is none the worse."""
    plain.error = "The bundle holds no weights."
    row = make_row(CASE, ours, plain)
    assert row["plain"] == {"left_out": "The bundle holds no weights."}
    assert row["memory_share"] is None
    assert "error" not in row


def test_what_cannot_run_is_an_error(ours: Record) -> None:
    """With what was asked for, and nothing that was measured before it failed."""
    ours.error = "No such GPU."
    row = make_row(CASE, ours, None)
    assert row["error"] == "No such GPU."
    assert row["words"] == 1_000
    assert "stages" not in row


def report(*rows: dict[str, Any]) -> dict[str, Any]:
    """A report of some rows."""
    machine = {"processor": "Abacus", "cores": 2, "threads": 2, "gpus": [], "versions": {"a": "1"}}
    head = {"atas_deploy": "0", "video": "a pan", "frames": 10, "rounds": 3, "rows": list(rows)}
    return head | {"machine": machine, "load_before": 0.1, "load_after": 1.5}


def test_markdown_has_a_line_for_each_row_and_each_baseline(ours: Record, plain: Record) -> None:
    """And remarks on what is missing; all lines of a table have as many cells."""
    good = make_row(CASE, ours, plain)
    ours.error = "No such GPU."
    text = to_markdown(report(good, make_row(CASE, ours, None)))
    lines = text.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    heads = [line.split("|")[1].strip(" -:") for line in tables]
    assert heads == ["", "", "1", "", "", "1", "1 plain"]
    assert len({line.count("|") for line in tables[:3]}) == 1
    assert len({line.count("|") for line in tables[3:]}) == 1
    assert lines[-1] == "- 2, tiny on ort: error: No such GPU."
    assert "load 0.1 before and 1.5 after" in text
    assert " 15.0 / 20.0 |" in tables[2]
    assert "1,000" in text


def test_markdown_shows_what_is_null_as_a_dash(ours: Record) -> None:
    """The transfer on a CPU."""
    text = to_markdown(report(make_row(CASE, ours, None)))
    stages = text.splitlines()[-1].split("|")
    assert stages[1 + 1 + STAGES.index("transfer")].strip() == "-"
    assert stages[1 + 1 + STAGES.index("decode")].strip() == "2.0 / 3.0"

"""Comparisons of stored runs."""

import json
from pathlib import Path

import pytest

from atas_deploy.core.errors import InputError
from atas_deploy.evaluation.bootstrap import bootstrap
from atas_deploy.evaluation.compare import compare_runs, to_json, to_markdown
from atas_deploy.evaluation.report import write_report
from atas_deploy.evaluation.retrieval import measure
from atas_deploy.evaluation.rows import Row, Rows
from atas_deploy.evaluation.task import Report


def write_run(folder: Path, hits: list[int], *, task: str = "retrieval", model: str = "x") -> Path:
    """A run of retrieval: whether each of the images found its caption, and the other way."""
    rows = Rows()
    for number, hit in enumerate(hits):
        counts = {name: [1, hit, hit, hit] for name in ("image_to_text", "text_to_image")}
        rows.add(Row(f"image-{number}", counts))
    scores = bootstrap(rows, measure, replicates=100)
    report = Report(
        task=task,
        unit="image",
        facts={"model": model},
        scores=scores,
        table=[],
        rows=rows,
        measure=measure,
        replicates=100,
        seed=0,
    )
    write_report(folder, report)
    return folder


def test_equal_runs_do_not_differ(tmp_path: Path) -> None:
    """All differences are 0, with an interval of 0."""
    hits = [0, 1] * 20
    a, b = write_run(tmp_path / "a", hits), write_run(tmp_path / "b", hits)
    for difference in compare_runs(a, b, replicates=200).differences.values():
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert difference.p == 1


def test_a_model_that_is_better_throughout_is_found_better(tmp_path: Path) -> None:
    """The interval leaves out 0 and p is small, B less A."""
    a = write_run(tmp_path / "a", [0, 0, 1, 1] * 10, model="old")
    b = write_run(tmp_path / "b", [1, 0, 1, 1] * 10, model="new")
    found = compare_runs(a, b, replicates=400)
    difference = next(iter(found.differences.values()))
    assert difference.value == pytest.approx(0.25)
    assert 0 < difference.low < 0.25 < difference.high
    assert difference.p < 0.02
    assert found.facts == {"model": ("old", "new")}


def test_the_same_images_are_drawn_for_both(tmp_path: Path) -> None:
    """A gain on one image in ten is surer in pairs than the two intervals look."""
    a = write_run(tmp_path / "a", [0, 1] * 50)
    b = write_run(tmp_path / "b", ([0, 1] * 4 + [1, 1]) * 10)
    difference = next(iter(compare_runs(a, b).differences.values()))
    assert difference.value == pytest.approx(0.1)
    assert difference.low > 0


def test_json_and_page_name_what_differs(tmp_path: Path) -> None:
    """Both can be written, and tell the settings apart."""
    a = write_run(tmp_path / "a", [0, 1], model="old")
    found = compare_runs(a, write_run(tmp_path / "b", [1, 1], model="new"), replicates=100)
    assert json.loads(json.dumps(to_json(found), allow_nan=False))["facts"]["model"] == [
        "old",
        "new",
    ]
    assert "- model: old / new" in to_markdown(found)


def test_other_images_are_refused(tmp_path: Path) -> None:
    """Runs of different data cannot be paired."""
    a, b = write_run(tmp_path / "a", [0, 1]), write_run(tmp_path / "b", [0, 1, 1])
    with pytest.raises(InputError, match=r"different images \(image-2 is in one of them only\)"):
        compare_runs(a, b)


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    """Both tasks are named."""
    a, b = write_run(tmp_path / "a", [1]), write_run(tmp_path / "b", [1], task="video")
    with pytest.raises(InputError, match=r"retrieval and .* video; compare"):
        compare_runs(a, b)


def test_settings_that_may_be_the_cause_are_named(tmp_path: Path) -> None:
    """Where runs are of other images, as another seed may draw them."""
    a, b = write_run(tmp_path / "a", [0, 1]), write_run(tmp_path / "b", [0, 1, 1])
    path = b / "report.json"
    report = json.loads(path.read_text())
    report["facts"]["drawn_with_seed"] = 3
    path.write_text(json.dumps(report))
    with pytest.raises(InputError, match="they differ in drawn with seed"):
        compare_runs(a, b)

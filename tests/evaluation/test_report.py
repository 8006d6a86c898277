"""Reports: what is written can be read again, and nothing else is taken for it."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.evaluation.page import markdown_table, to_markdown
from atas_deploy.evaluation.report import (
    IMAGES,
    PAGE,
    REPORT,
    ROWS,
    plain,
    read_rows,
    to_json,
    write_report,
)
from atas_deploy.evaluation.rows import Counts, FloatArray, Row
from atas_deploy.evaluation.task import Report, run_task

HEAD = '{"format": 1, "task": "a", "rows": 1, "widths": {"x": 1}}\n'


class Marbles:
    """A task over bags: the share of red ones."""

    name, unit, total = "marbles", "image", 3

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Three bags, one of them empty."""
        for name, red, all_of_it in (("a", 1, 4), ("b", 3, 4), ("c", 0, 0)):
            advance()
            yield Row(name, {"red": red, "all": [all_of_it]})

    def measure(self, totals: Counts) -> dict[str, FloatArray]:
        """The share, and one that there never is."""
        share = totals["red"][..., 0] / np.maximum(totals["all"][..., 0], 1)
        return {"share": share, "auc": share, "missing": np.full(share.shape, np.nan)}

    def facts(self) -> dict[str, Any]:
        """A list and a path with a pipe in it."""
        return {"model": "a|b", "templates": ["a photo of {}"]}

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """One class, with a name that would break a table."""
        return [{"class": "red|scarlet", "share": 0.5, "bags": int(totals["all"][0])}]


@pytest.fixture
def report() -> Report:
    """The report on the marbles."""
    return run_task(Marbles(), replicates=100)


def test_a_task_counts_its_units() -> None:
    """Progress moves once for each unit."""
    seen: list[int] = []
    report = run_task(Marbles(), advance=lambda: seen.append(1), replicates=100)
    assert len(seen) == 3 == len(report.rows)


def test_json_has_scores_facts_and_the_bootstrap(report: Report) -> None:
    """All that a score depends on stands beside it; NaN is null."""
    found = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert found["scores"]["share"]["value"] == 0.5
    assert found["scores"]["missing"] == {"value": None, "low": None, "high": None}
    assert found["facts"]["templates"] == ["a photo of {}"]
    assert found["bootstrap"] == {
        "confidence": 0.95,
        "replicates": 100,
        "seed": 0,
        "over": "images",
    }
    assert found["units"] == 3


def test_the_page_shows_percent_areas_and_gaps(report: Report) -> None:
    """Shares are percent, areas under a curve are not, and what is missing is a dash."""
    page = to_markdown(report)
    assert "| share | 50.00 |" in page
    assert "| auc | 0.500 |" in page
    assert "| missing | - | - |" in page
    assert "red\\|scarlet" in page


def test_the_page_tells_the_settings(report: Report) -> None:
    """As people write them; what was not set is left out."""
    report.facts.update(logit_scale=25.891281127929688, window=None)
    report.facts["left_out"] = {"small": 15, "crowd": 2}
    settings = to_markdown(report).partition("## Settings")[2]
    assert "- logit scale: 25.8913\n- left out: small 15, crowd 2\n" in settings
    assert "window" not in settings


def test_rows_come_back(report: Report, tmp_path: Path) -> None:
    """The rows of a report on disk have the same sums."""
    write_report(tmp_path / "new" / "folder", report)
    task, rows = read_rows(tmp_path / "new" / "folder")
    assert task == "marbles"
    assert rows.names == ["a", "b", "c"]
    assert {name: sums.tolist() for name, sums in rows.totals().items()} == {
        "red": [4.0],
        "all": [8.0],
    }
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        REPORT,
        PAGE,
        IMAGES,
        ROWS,
    }


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", HEAD + '{"name": "a"}', "\x00", HEAD, HEAD.replace("1,", "9,", 1)]
    + [HEAD.replace('{"x": 1}', '{"x": 1e999}')]
    + [
        HEAD + json.dumps({"name": "a"} | wrong)
        for wrong in (
            {"columns": [1], "values": [1]},
            {"columns": [-1], "values": [1]},
            {"columns": [0], "values": [1, 2]},
            {"columns": ["a"], "values": [1]},
        )
    ],
)
def test_damaged_rows_are_refused(text: str, tmp_path: Path) -> None:
    """One sentence names the file or the folder."""
    (tmp_path / ROWS).write_text(text)
    with pytest.raises(InputError, match=str(tmp_path)):
        read_rows(tmp_path)


def test_each_image_has_its_scores(report: Report, tmp_path: Path) -> None:
    """A line an image; empty where it has no score."""
    write_report(tmp_path, report)
    assert (tmp_path / IMAGES).read_text().splitlines() == [
        "image,share,auc,missing",
        "a,0.25,0.25,",
        "b,0.75,0.75,",
        "c,0.0,0.0,",
    ]


def test_one_image_has_no_interval() -> None:
    """The page says why, and shows a dash."""
    task = Marbles()
    task.rows = lambda advance: iter([Row("a", {"red": 1, "all": 4})])  # type: ignore[method-assign]
    page = to_markdown(run_task(task, replicates=100))
    assert "| share | 25.00 | - |" in page
    assert "One image has no interval" in page


def test_all_files_or_none(report: Report, tmp_path: Path) -> None:
    """Where one cannot be written, those of the run before stay as they are."""
    write_report(tmp_path, report)
    before = (tmp_path / ROWS).read_text()
    report.rows.add(Row("d", {"red": 1, "all": 1}))
    report.facts["model"] = math  # no JSON has it
    with pytest.raises(TypeError):
        write_report(tmp_path, report)
    assert (tmp_path / ROWS).read_text() == before
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    """The sentence says what folder is wanted."""
    with pytest.raises(InputError, match="give a folder that `atas-deploy eval` wrote"):
        read_rows(tmp_path)


def test_a_report_that_cannot_be_written_is_an_output_error(report: Report, tmp_path: Path) -> None:
    """A file in the place of the folder is named."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        write_report(tmp_path / "file", report)


def test_plain_values_are_json() -> None:
    """NumPy's numbers, tuples and NaN become what JSON has."""
    values = {"a": np.float32(0.5), "b": (np.int64(3), math.inf), 1: np.nan}
    assert json.dumps(plain(values)) == '{"a": 0.5, "b": [3, null], "1": null}'


def test_an_empty_table_is_empty() -> None:
    """No rows give a head without columns, no error."""
    assert markdown_table([]) == "|  |\n| --- |"

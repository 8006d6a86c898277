"""Reports on disk: report.json, report.md, and rows.jsonl to compare runs by.

report.json    task, facts, scores with intervals, class table
report.md      the same to read
rows.jsonl     what each image adds, see `atas_deploy.evaluation.rows`
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atas_deploy.core.errors import InputError
from atas_deploy.core.files import atomic_path, output_error
from atas_deploy.evaluation.bootstrap import CONFIDENCE, Score
from atas_deploy.evaluation.rows import Rows
from atas_deploy.evaluation.task import Report

REPORT, PAGE, ROWS = "report.json", "report.md", "rows.jsonl"
_DIGITS = 6


def to_json(report: Report) -> dict[str, Any]:
    """A report as JSON has it: NaN becomes null, numbers are rounded to 6 digits."""
    found: dict[str, Any] = plain(
        {
            "task": report.task,
            "unit": report.unit,
            "units": len(report.rows),
            "facts": report.facts,
            "scores": {name: _score(score) for name, score in report.scores.items()},
            "bootstrap": {
                "confidence": CONFIDENCE,
                "replicates": report.replicates,
                "seed": report.seed,
                "over": f"{report.unit}s",
            },
            "classes": report.table,
        }
    )
    return found


def write_report(folder: Path, report: Report) -> None:
    """Write the three files; each appears whole or not at all, report.json last.

    Raises:
        OutputError: one cannot be written.
    """
    lines = (json.dumps(line, separators=(",", ":")) for line in report.rows.lines())
    head = json.dumps({"task": report.task, "widths": report.rows.widths})
    write_text(folder / ROWS, "\n".join([head, *lines]) + "\n")
    write_text(folder / PAGE, to_markdown(report))
    text = json.dumps(to_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / REPORT, text + "\n")


def read_rows(folder: Path) -> tuple[str, Rows]:
    """The task and the rows that `write_report` left in a folder.

    Raises:
        InputError: there are none, or they are damaged.
    """
    path = folder / ROWS
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(next(file))
            return str(head["task"]), Rows.from_lines(head["widths"], map(json.loads, file))
    except (OSError, StopIteration) as exc:
        raise InputError(
            f"{folder} holds no evaluation (no readable {ROWS}); give a folder that `atas-deploy "
            "eval` wrote."
        ) from exc
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise InputError(f"{path} is damaged ({exc}); evaluate again.") from exc


def to_markdown(report: Report) -> str:
    """A page to read: scores with intervals in percent, classes, and what they depend on."""
    low_high = f"{100 * CONFIDENCE:.0f} % interval"
    scores = (
        {"score": name, "value": show(name, s.value), low_high: show_interval(name, s)}
        for name, s in report.scores.items()
    )
    over = f"Bootstrap over {len(report.rows)} {report.unit}s, {report.replicates} replicates."
    parts = [f"# {report.task.capitalize()}", markdown_table(scores), over]
    if report.table:
        rows = [{k: _cell(k, v) for k, v in row.items()} for row in report.table]
        parts += ["## Classes", markdown_table(rows)]
    facts = [f"- {name.replace('_', ' ')}: {_line(fact)}" for name, fact in report.facts.items()]
    return "\n\n".join([*parts, "## Settings", "\n".join(facts)]) + "\n"


def markdown_table(rows: Iterable[Mapping[str, str]]) -> str:
    """A table with the keys of the first row as its head; all but the first column to the right."""
    listed = list(rows)
    head = list(listed[0]) if listed else []
    rule = ["---", *(["---:"] * (len(head) - 1))]
    lines = [head, rule, *([_escape(row.get(name, "")) for name in head] for row in listed)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show(name: str, value: float) -> str:
    """A share in percent, or a number as it is (`auc`); "-" for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if is_plain(name) else f"{100 * value:.2f}"


def show_interval(name: str, score: Score) -> str:
    """The ends of an interval as `show` has them."""
    return f"{show(name, score.low)} to {show(name, score.high)}"


def is_plain(name: str) -> bool:
    """Whether a score is no percentage by habit: areas under a curve."""
    return "auc" in name.split("_")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; its folder is made.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(path, exc) from exc
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def plain(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities become null, floats are rounded."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(float(value), _DIGITS) if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value


def _score(score: Score) -> dict[str, float]:
    return {"value": score.value, "low": score.low, "high": score.high}


def _cell(name: str, value: Any) -> str:
    return show(name, value) if isinstance(value, float) else str(value)


def _line(fact: Any) -> str:
    return (
        json.dumps(plain(fact), ensure_ascii=False) if isinstance(fact, list | dict) else f"{fact}"
    )


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

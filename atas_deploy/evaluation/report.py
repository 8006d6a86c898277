"""Reports on disk: report.json, report.md, images.csv, and rows.jsonl to compare runs by.

report.json    task, facts, scores with intervals, class table
report.md      the same to read
images.csv     the scores of each image by itself
rows.jsonl     what each image adds, see `atas_deploy.evaluation.rows`
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from atas_deploy.core.errors import InputError, first_sentence
from atas_deploy.core.files import atomic_path, output_error
from atas_deploy.evaluation.bootstrap import CONFIDENCE, Score
from atas_deploy.evaluation.rows import Rows
from atas_deploy.evaluation.task import Report

REPORT, PAGE, IMAGES, ROWS = "report.json", "report.md", "images.csv", "rows.jsonl"
_FORMAT = 1  # of the rows; another one where a task's counts mean something else
_DIGITS = 6


def to_json(report: Report) -> dict[str, Any]:
    """A report as JSON has it: NaN becomes null, numbers are rounded to 6 digits."""
    found: dict[str, Any] = plain(
        {
            "task": report.task,
            "unit": report.unit,
            "units": len(report.rows),
            "facts": report.facts,
            "scores": {name: asdict(score) for name, score in report.scores.items()},
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
    """Write the files, all of them or none.

    Raises:
        OutputError: one cannot be written.
    """
    text = json.dumps(to_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    write_texts(
        folder,
        {
            ROWS: _row_lines(report),
            IMAGES: _image_lines(report),
            PAGE: [to_markdown(report)],
            REPORT: [text + "\n"],
        },
    )


def _row_lines(report: Report) -> Iterator[str]:
    rows = report.rows
    head = {"format": _FORMAT, "task": report.task, "rows": len(rows), "widths": rows.widths}
    for line in chain([head], rows.lines()):
        yield json.dumps(line, separators=(",", ":")) + "\n"


def _image_lines(report: Report) -> Iterator[str]:
    """The scores of each image as CSV; empty where it has none."""
    names = list(report.scores)
    yield _csv_line([report.unit, *names])
    images = iter(report.rows.names)
    for counts in report.rows.single():
        scores = report.measure(counts)
        for values in zip(*(scores[name].tolist() for name in names), strict=True):
            cells = ("" if math.isnan(value) else round(value, _DIGITS) for value in values)
            yield _csv_line([next(images), *cells])


def _csv_line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def read_rows(folder: Path) -> tuple[str, Rows]:
    """The task and the rows that `write_report` left in a folder.

    Raises:
        InputError: there are none, they are damaged, or of another release.
    """
    path = folder / ROWS
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(next(file))
            rows = Rows.from_lines(head["widths"], map(json.loads, file))
            known = head["format"] == _FORMAT and head["rows"] == len(rows)
            task = str(head["task"])
    except (OSError, StopIteration) as exc:
        raise InputError(
            f"{folder} holds no evaluation (no readable {ROWS}); give a folder that `atas-deploy "
            "eval` wrote."
        ) from exc
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as exc:
        raise InputError(f"{path} is damaged ({first_sentence(exc)}); evaluate again.") from exc
    if not known:
        raise InputError(f"{path} is cut off or of another release; evaluate again.")
    return task, rows


def to_markdown(report: Report) -> str:
    """A page to read: scores with intervals in percent, classes, and what they depend on."""
    low_high = f"{100 * CONFIDENCE:.0f} % interval"
    scores = (
        {"score": name, "value": show(name, s.value), low_high: show_interval(name, s)}
        for name, s in report.scores.items()
    )
    over = f"Bootstrap over {len(report.rows)} {report.unit}s, {report.replicates} replicates."
    if len(report.rows) == 1:
        over = f"One {report.unit} has no interval: it says nothing of others."
    parts = [f"# {report.task.capitalize()}", markdown_table(scores), over]
    if report.table:
        found = [row for row in report.table if row.get("pixels", 1)]
        rows = [{k: _cell(k, v) for k, v in row.items()} for row in found]
        parts += ["## Classes", markdown_table(rows)]
        if absent := len(report.table) - len(found):
            parts.append(f"Classes that occur in no truth, in the JSON report only: {absent}.")
    facts = [
        f"- {name.replace('_', ' ')}: {show_fact(fact)}"
        for name, fact in report.facts.items()
        if fact is not None
    ]
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
    """The ends of an interval as `show` has them; "-" without one."""
    if math.isnan(score.low):
        return "-"
    return f"{show(name, score.low)} to {show(name, score.high)}"


def is_plain(name: str) -> bool:
    """Whether a score is no percentage by habit: areas under a curve."""
    return "auc" in name.split("_")


def write_texts(folder: Path, texts: Mapping[str, Iterable[str]]) -> None:
    """Write text files by name, all of them or none; the folder is made.

    Raises:
        OutputError: one cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    with ExitStack() as stack:
        for name, pieces in texts.items():
            part = stack.enter_context(atomic_path(folder / name))
            with part.open("w", encoding="utf-8", newline="") as file:
                file.writelines(pieces)


def plain(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities become null, floats are rounded."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(float(value), _DIGITS) if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value


def _cell(name: str, value: Any) -> str:
    return show(name, value) if isinstance(value, float) else str(value)


def show_fact(fact: Any) -> str:
    """A fact as people write it."""
    if isinstance(fact, Mapping):
        return ", ".join(f"{name} {show_fact(value)}" for name, value in fact.items())
    if isinstance(fact, list | tuple):
        return ", ".join(map(show_fact, fact))
    return f"{fact:.6g}" if isinstance(fact, float) else str(fact)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

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
from atas_deploy.evaluation.bootstrap import CONFIDENCE
from atas_deploy.evaluation.page import to_markdown
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

"""Reports as Markdown."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from atas_deploy.evaluation.bootstrap import CONFIDENCE, Score
from atas_deploy.evaluation.task import Report


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

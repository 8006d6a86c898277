"""Two stored runs of a task, compared image by image."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atas_deploy.core.errors import InputError
from atas_deploy.evaluation import (
    coherence,
    localization,
    regions,
    retrieval,
    segmentation,
    video,
)
from atas_deploy.evaluation.bootstrap import CONFIDENCE, Difference, compare
from atas_deploy.evaluation.page import markdown_table, show, show_fact
from atas_deploy.evaluation.report import REPORT, plain, read_rows
from atas_deploy.evaluation.rows import Measure, Rows

MEASURES: dict[str, Measure] = {
    "segmentation": segmentation.measure,
    "regions": regions.measure,
    "retrieval": retrieval.measure,
    "localization": localization.measure,
    "coherence": coherence.measure,
    "video": video.measure,
}
"""From sums to scores, by task."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the comparison of two runs found.

    Attributes:
        task: its name.
        units: images (or videos) that both runs measured.
        differences: by score; each is B's less A's.
        facts: settings in which the runs differ: those of A and of B.
        replicates, seed: of the bootstrap.
    """

    task: str
    units: int
    differences: dict[str, Difference]
    facts: dict[str, tuple[Any, Any]]
    replicates: int
    seed: int


def compare_runs(a: Path, b: Path, *, replicates: int = 1000, seed: int = 0) -> Comparison:
    """Compare the runs in two folders by a paired bootstrap.

    Raises:
        InputError: a folder holds no run, or they are of different tasks, images or classes.
    """
    (task, rows_a), (other, rows_b) = read_rows(a), read_rows(b)
    if task != other or task not in MEASURES:
        raise InputError(f"{a} is a run of {task} and {b} one of {other}; compare like with like.")
    facts = _facts(a, b)
    _check_pairs(rows_a, rows_b, facts)
    found = compare(rows_a, rows_b, MEASURES[task], replicates=replicates, seed=seed)
    return Comparison(task, len(rows_a), found, facts, replicates, seed)


def _check_pairs(a: Rows, b: Rows, facts: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse runs of other images or classes.

    Raises:
        InputError: naming the first difference, and the settings that may be the cause.
    """
    if a.names == b.names and a.widths == b.widths:
        return
    only = sorted(set(a.names) ^ set(b.names))
    first = f" ({only[0]} is in one of them only)" if only else ""
    what = "images" if a.names != b.names else "classes"
    other = [name.replace("_", " ") for name in facts if name not in ("model", "fingerprint")]
    differ = f"; they differ in {', '.join(other)}" if other else ""
    raise InputError(
        f"The two runs are of different {what}{first}{differ}: evaluate both on the same data with "
        "the same settings."
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it."""
    found: dict[str, Any] = plain(asdict(comparison) | {"confidence": CONFIDENCE})
    return found


def to_markdown(comparison: Comparison) -> str:
    """A table of scores, and the settings that differ."""
    rows = (
        {
            "score": name,
            "A": show(name, d.a),
            "B": show(name, d.b),
            "B - A": show(name, d.value),
            f"{100 * CONFIDENCE:.0f} % interval": f"{show(name, d.low)} to {show(name, d.high)}",
            "p": f"{d.p:.3f}",
        }
        for name, d in comparison.differences.items()
    )
    over = (
        f"Paired bootstrap over {comparison.units} images or videos, {comparison.replicates} "
        "replicates; p is two-sided, and not corrected for the number of scores."
    )
    facts = [
        f"- {name.replace('_', ' ')}: {show_fact(first)} / {show_fact(second)}"
        for name, (first, second) in comparison.facts.items()
    ]
    title = f"# {comparison.task.capitalize()}: B against A"
    return "\n\n".join([title, markdown_table(rows), over, "\n".join(facts)]).rstrip() + "\n"


def _facts(a: Path, b: Path) -> dict[str, tuple[Any, Any]]:
    first, second = _read_facts(a), _read_facts(b)
    names = dict.fromkeys((*first, *second))
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _read_facts(folder: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads((folder / REPORT).read_text(encoding="utf-8"))["facts"])
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise InputError(f"{folder / REPORT} cannot be read; evaluate again.") from exc

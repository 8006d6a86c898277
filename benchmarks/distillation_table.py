"""Print the results of `distillation.py` as Markdown tables.

python benchmarks/distillation_table.py benchmarks/results/distillation.json

Means over the seeds of a row, ± half of what lies between the best and the worst of them.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distillation import BASE, DENSE, MAIN, SCORES

from atas_deploy.core.readouts import READOUTS

TITLES = {
    "segmentation": "mIoU, 133 categories compete / those present compete",
    "dense_regions": "Top-1 of boxes / thing masks / stuff masks",
    "coherence": "AUC of pairs of patches in a picture / across pictures",
}
Report = dict[str, dict[str, Any]]


def main() -> None:
    """Read the JSON and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    report: Report = json.loads(parser.parse_args().results.read_text(encoding="utf-8"))
    for task in DENSE:
        print(f"{TITLES[task]}:\n")
        print(table(["", *READOUTS], scores_lines(report, task)), "\n")
    print("R@1, text to image / image to text:\n")
    lines = ([row, cell(found["retrieval"], "retrieval")] for row, found in report.items())
    print(table(["", "R@1"], lines), "\n")
    print("Less the base, present compete, first seed, with 95 % interval:\n")
    print(table(["", *READOUTS], gains(report)), "\n")
    ahead, columns = count_ahead(report, *MAIN)
    print(f"{MAIN[0]} is ahead of {MAIN[1]} in {ahead} of {columns} columns.")


def scores_lines(report: Report, task: str) -> Iterator[list[str]]:
    """A line for each row of a task, a cell for each read-out."""
    for row, found in report.items():
        cells = [found.get(f"{task}-{readout}") for readout in READOUTS]
        yield [row, *(cell(scores, task) if scores else "" for scores in cells)]


def cell(scores: dict[str, Any], task: str) -> str:
    """The means over seeds, with their spread if there are several."""
    return " / ".join(number(scores[name]) for name in SCORES[task])


def number(score: dict[str, Any]) -> str:
    """A mean, and half of what lies between the largest and the smallest of several seeds."""
    spread = (max(score["each"]) - min(score["each"])) / 2
    return f"{score['value']:.1f}" + (f" ± {spread:.1f}" if len(score["each"]) > 1 else "")


def gains(report: Report) -> Iterator[list[str]]:
    """What each row adds to the base in mIoU of the categories present."""
    for row, found in report.items():
        if row != BASE:
            cells = (found.get(f"segmentation-{readout}") for readout in READOUTS)
            yield [row, *(difference(c["present_miou"]) if c else "" for c in cells)]


def difference(score: dict[str, float]) -> str:
    """A difference and its interval."""
    return f"{score['first_less_base']:+.1f} ({score['low']:+.1f} to {score['high']:+.1f})"


def count_ahead(report: Report, first: str, second: str) -> tuple[int, int]:
    """In how many scores the first row has the larger mean, of how many."""
    pairs = [
        (report[first][name][score]["value"], scores[score]["value"])
        for name, scores in report[second].items()
        if isinstance(scores, dict)
        for score in scores
    ]
    return sum(mine > other for mine, other in pairs), len(pairs)


def table(head: Sequence[str], lines: Iterator[list[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()

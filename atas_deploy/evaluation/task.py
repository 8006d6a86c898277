"""What every evaluation has in common: rows in, a report out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from atas_deploy.evaluation.bootstrap import Score, bootstrap
from atas_deploy.evaluation.rows import Counts, FloatArray, Measure, Row, Rows


class Task(Protocol):
    """Something to measure.

    Attributes:
        name: of the task, as the command's.
        unit: what a row is: "image" or "video".
        total: how many rows are expected; None if unknown.
    """

    name: str
    unit: str
    total: int | None

    def rows(self, advance: Callable[[], None]) -> Iterator[Row]:
        """Yield a row for each unit, one at a time, in flat memory.

        Args:
            advance: to be called once for each unit when its work is done.
        """
        ...

    def measure(self, totals: Counts) -> dict[str, FloatArray]:
        """Scores of sums, each a share in [0, 1] unless its name tells otherwise."""
        ...

    def facts(self) -> dict[str, Any]:
        """Everything that the scores depend on, JSON-ready."""
        ...

    def table(self, totals: Counts) -> list[dict[str, Any]]:
        """A row for each class, JSON-ready; none if there are no classes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """What a task found.

    Attributes:
        task: its name.
        unit: what a row is.
        facts: what the scores depend on.
        scores: with their intervals.
        table: class by class.
        rows: what they were computed from.
        measure: how.
        replicates, seed: of the bootstrap.
    """

    task: str
    unit: str
    facts: dict[str, Any]
    scores: dict[str, Score]
    table: list[dict[str, Any]]
    rows: Rows
    measure: Measure
    replicates: int
    seed: int


def run_task(
    task: Task,
    *,
    advance: Callable[[], None] = lambda: None,
    replicates: int = 1000,
    seed: int = 0,
) -> Report:
    """Run a task and compute its scores with intervals.

    Args:
        task: what to measure.
        advance: called for each unit.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: there is nothing to measure, or an annotation cannot be used.
        BackendError: the engine fails.
    """
    rows = Rows()
    for row in task.rows(advance):
        rows.add(row)
    scores = bootstrap(rows, task.measure, replicates=replicates, seed=seed)
    table = task.table(rows.totals())
    return Report(
        task=task.name,
        unit=task.unit,
        facts=task.facts(),
        scores=scores,
        table=table,
        rows=rows,
        measure=task.measure,
        replicates=replicates,
        seed=seed,
    )

"""A report to read: two Markdown tables, one of whole frames and one of their stages."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from atas_deploy.bench.stopwatch import STAGES

Row = Mapping[str, Any]
_WHOLE: Mapping[str, Callable[[Row], str]] = {
    "model": lambda row: f"{row['model']}, {row['precision']}",
    "engine": lambda row: f"{row['backend']}, {row['device']}",
    "frame": lambda row: _size(row["size"]),
    "input": lambda row: _size(row["input"]),
    "batch": lambda row: str(row["batch_size"]),
    "words": lambda row: f"{row['words']:,}",
    "end to end, ms": lambda row: _pair(row["end_to_end"]),
    "frames/s": lambda row: _number(row["frames_per_second"]),
    "encoder / end to end": lambda row: _number(row["encoder_over_end_to_end"], "{:.2f}"),
    "of matrix peak": lambda row: _number(row["share_of_matrix_peak"], "{:.0%}"),
    "words, s": lambda row: _number(row["text_encoding_s"]),
    "host MB": lambda row: _number(row["peak_host_mb"], "{:,.0f}"),
    "GPU MB": lambda row: _number(row["peak_device_mb"], "{:,.0f}"),
    "speed-up": lambda row: _number(row["speed_up"], "{:.2f}"),
    "memory": lambda row: _number(row["memory_share"], "{:.2f}"),
    "equal pixels": lambda row: _number(row["equal_pixels"], "{:.5f}"),
}


def to_markdown(report: Mapping[str, Any]) -> str:
    """The report as text; what is null is shown as "-"."""
    rows = list(enumerate(report["rows"], 1))
    sound = [(number, row) for number, row in rows if "error" not in row]
    parts = ["\n".join(_head(report))]
    if sound:
        whole = [[str(n), *(show(row) for show in _WHOLE.values())] for n, row in sound]
        stages = [line for n, row in sound for line in _stage_lines(n, row)]
        titles = [stage.replace("_", " ") for stage in STAGES]
        parts.append(_table(["", *_WHOLE], whole))
        parts.append("Stages by themselves, ms a frame (median / 95th percentile):")
        parts.append(_table(["", *titles], stages))
    if told := list(_remarks(rows)):
        parts.append("\n".join(told))
    return "\n\n".join(parts) + "\n"


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpus = "".join(f"; {gpu}" for gpu in machine["gpus"])
    yield f"# atas-deploy bench {report['atas_deploy']}"
    yield ""
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, load "
        f"{report['load_before']} before and {report['load_after']} after{gpus}; {versions}."
    )
    yield f"Video: {report['video']}; frames: {report['frames']}, rounds: {report['rounds']}."


def _stage_lines(number: int, row: Row) -> Iterator[list[str]]:
    """The stages of a row, and of the baseline below it."""
    yield [str(number), *(_pair(row["stages"][stage]) for stage in STAGES)]
    plain = row["plain"]
    if plain and "stages" in plain:
        yield [f"{number} plain", *(_pair(plain["stages"][stage]) for stage in STAGES)]


def _remarks(rows: Iterable[tuple[int, Row]]) -> Iterator[str]:
    """What could not run, and what was measured of `--adaptive`."""
    for number, row in rows:
        if "error" in row:
            yield f"- {number}, {row['model']} on {row['backend']}: error: {row['error']}"
            continue
        if "left_out" in (row["plain"] or {}):
            yield f"- {number}: no plain baseline: {row['plain']['left_out']}"
        for level in row["adaptive"] or ():
            figures = ", ".join(f"{name} {_plain(value)}" for name, value in level.items())
            yield f"- {number}, adaptive: {figures}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide as they need be."""
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * (width - 1) + ":" for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.rjust(w) for cell, w in zip(line, widths, strict=True))} |"
        for line in lines
    )


def _size(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


def _pair(found: Mapping[str, float] | None) -> str:
    """Median and 95th percentile; the mean where a run was too short for both."""
    if not found:
        return "-"
    if "p50" not in found:
        return f"{found['mean']:.1f}"
    return f"{found['p50']:.1f} / {found['p95']:.1f}"


def _number(value: float | None, form: str = "{:.2f}") -> str:
    return "-" if value is None else form.format(value)


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

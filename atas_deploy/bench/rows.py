"""From what contenders measured to the rows of a report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from atas_deploy.bench.plan import Case
from atas_deploy.bench.stopwatch import STAGES

_MEGA = 2**20


@dataclass(slots=True)
class Record:
    """What a contender did.

    Attributes:
        labels: .npz file with the labels of some frames, once it had its first turn.
        turns: what `take_turn` returned.
        text_seconds: that its words took.
        adaptive: what `measure_adaptive` returned, one a level.
        flops: of its encoder for one frame; None if they were not counted.
        error: why it is out.
    """

    labels: Path
    turns: list[dict[str, Any]] = field(default_factory=list)
    text_seconds: float | None = None
    adaptive: list[dict[str, Any]] | None = None
    flops: int | None = None
    error: str | None = None

    def per_frame(self) -> list[float]:
        """Seconds a frame of the whole way, from opening the video to closing the other; a turn."""
        return [turn["run_s"] / turn["frames"] for turn in self.turns]

    def stage(self, name: str) -> list[float]:
        """Milliseconds of frames in a stage, over all turns."""
        return [ms for turn in self.turns for ms in turn["stages"].get(name, ())]


def make_row(case: Case, record: Record, plain: Record | None) -> dict[str, Any]:
    """The row of a case.

    Args:
        case: what was asked for.
        record: ours.
        plain: that of the baseline; None = it was not asked for.
    """
    head = asdict(case)
    if record.error is not None:
        return head | {"error": record.error}
    last = record.turns[-1]
    head |= {"size": last["size"], "input": last["input"], "precision": last["precision"]}
    return head | _measured(record) | _encoder(record) | _against(record, plain)


def _measured(record: Record) -> dict[str, Any]:
    """What is measured of every contender."""
    steps = [step for turn in record.turns for step in turn["steps"]]
    seconds = median(record.per_frame())
    return {
        "stages": {stage: _percentiles(record.stage(stage)) for stage in STAGES},
        "end_to_end": (_percentiles(steps) or {}) | {"mean": round(1e3 * seconds, 3)},
        "frames_per_second": round(1 / seconds, 3),
        "encoder_over_end_to_end": _encoder_share(record),
        "peak_host_mb": _megabytes(record, "peak_bytes"),
        "resident_host_mb": _megabytes(record, "resident_bytes"),
        "peak_device_mb": _megabytes(record, "device_bytes"),
        "text_encoding_s": _rounded(record.text_seconds),
    }


def _encoder_share(record: Record) -> float:
    """Time of the encoder over that of the whole way, each turn by itself; the median of them.

    Means of both: a processor that slows down for some frames does so in either.
    """
    alone = [1e-3 * fmean(turn["stages"]["encoder"]) for turn in record.turns]
    return _median_ratio(alone, record.per_frame())


def _encoder(record: Record) -> dict[str, Any]:
    """Operations of the encoder, and how near it comes to what the machine does at best."""
    flops, peaks = record.flops, [turn["matrix_flops"] for turn in record.turns]
    share = None
    if flops is not None:
        times = [1e-3 * median(turn["stages"]["encoder"]) for turn in record.turns]
        share = _median_ratio([flops / seconds for seconds in times], peaks)
    return {
        "encoder_gflop": None if flops is None else round(flops / 1e9, 3),
        "matrix_peak_gflops": round(median(peaks) / 1e9, 1),
        "matrix_peak_of": record.turns[-1]["matrix_product"],
        "share_of_matrix_peak": share,
        "adaptive": record.adaptive,
    }


def _against(record: Record, plain: Record | None) -> dict[str, Any]:
    """The baseline, and the ratios to it: turns of one round are compared with each other."""
    empty = {"speed_up": None, "memory_share": None, "equal_pixels": None}
    if plain is None:
        return empty | {"plain": None}
    if plain.error is not None:
        return empty | {"plain": {"left_out": plain.error}}
    ours_mb, plain_mb = (_megabytes(each, "peak_bytes") for each in (record, plain))
    return {
        "speed_up": _median_ratio(plain.per_frame(), record.per_frame()),
        "memory_share": round(ours_mb / plain_mb, 3) if ours_mb and plain_mb else None,
        "equal_pixels": _equal_pixels(record.labels, plain.labels),
        "plain": _measured(plain),
    }


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of each turn."""
    return round(float(median(a / b for a, b in zip(above, below, strict=True))), 3)


def _equal_pixels(ours: Path, plain: Path) -> float:
    """Share of the pixels of some frames that got the same label."""
    with np.load(ours) as mine, np.load(plain) as theirs:
        return float((mine["labels"] == theirs["labels"]).mean())


def _percentiles(milliseconds: Sequence[float]) -> dict[str, float] | None:
    """Median and 95th percentile; None of nothing."""
    if not milliseconds:
        return None
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _megabytes(record: Record, name: str) -> float | None:
    found = [turn[name] for turn in record.turns if turn[name] is not None]
    return round(median(found) / _MEGA, 1) if found else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)

"""A whole run: rounds of turns, each in a process of its own, and the report on them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atas_deploy import __version__
from atas_deploy.backends.opening import DEFAULT_DEVICES
from atas_deploy.bench.clip import make_clip
from atas_deploy.bench.machine import describe_machine, load_average
from atas_deploy.bench.plan import OURS, Case, Contender, Effort, turns_of
from atas_deploy.bench.rows import Record, make_row
from atas_deploy.core.child import ask
from atas_deploy.core.errors import AtasError, BackendError
from atas_deploy.core.geometry import Size
from atas_deploy.media.video import VideoReader
from atas_deploy.models import open_model
from atas_deploy.runtime.work import Progress


def run_bench(
    cases: Sequence[Case], effort: Effort, *, video: Path | None, progress: Progress
) -> dict[str, Any]:
    """Measure all cases; what cannot run becomes a row with an "error".

    Args:
        cases: what is asked for.
        effort: how much of it.
        video: to measure on; None = clips that are made, of the sizes of the cases.
        progress: where to tell how far it is.

    Returns:
        The report, JSON-ready.

    Raises:
        ConfigError: the number of threads asked for is none.
        InputError: the video cannot be read.
        OutputError: a temporary file cannot be written.
    """
    report: dict[str, Any] = {"atas_deploy": __version__, "machine": describe_machine()}
    report["load_before"] = load_average()
    with TemporaryDirectory(prefix="atas-deploy-bench-") as name:
        bench = _Bench(Path(name), effort, progress)
        report |= {"video": bench.prepare(cases, video), **asdict(effort)}
        bench.take_turns()
        rows = [bench.row(case) for case in cases]
    return report | {"load_after": load_average(), "rows": rows}


class _Bench:
    """The state of a run."""

    def __init__(self, folder: Path, effort: Effort, progress: Progress) -> None:
        self._folder, self._effort, self._progress = folder, effort, progress
        self._videos: dict[Size | None, Path] = {}
        self._contenders: dict[Case, Contender] = {}
        self._errors: dict[Case, str] = {}
        self._records: dict[Contender, Record] = {}
        self._texts: dict[tuple[Any, ...], float] = {}  # seconds, see `Contender.texts`
        self._caches: dict[tuple[Any, ...], Path] = {}  # of them
        self._number = count()

    def prepare(self, cases: Sequence[Case], video: Path | None) -> str:
        """Find the models, exporting them if need be, and make the clips; say what they show."""
        what = "as given" if video else ""
        if video is not None:
            with VideoReader(video, max_frames=1):
                self._videos[None] = video.resolve()
        for size in dict.fromkeys(case.size for case in cases if case.size):
            path = self._folder / f"{size[0]}x{size[1]}.mp4"
            what = self._make_clip(path, size)
            self._videos[size] = path
        for case in cases:
            try:
                self._contenders[case] = self._contender(case)
            except AtasError as exc:
                self._errors[case] = str(exc)
        return what

    def _make_clip(self, path: Path, size: Size) -> str:
        frames, progress = self._effort.frames, self._progress
        progress.begin(f"clip of {size[0]} x {size[1]}", total=frames, unit="frame")
        try:
            return make_clip(path, size=size, frames=frames, tick=progress.advance)
        finally:
            progress.end()

    def _contender(self, case: Case) -> Contender:
        bundle = open_model(case.model, tell=self._progress.note)
        return Contender(
            kind=OURS,
            model=str(bundle.path.resolve()),
            backend=case.backend,
            device=case.device or DEFAULT_DEVICES[case.backend],
            short_side=case.short_side or bundle.manifest.short_side,
            video=str(self._videos[case.size]),
            batch_size=case.batch_size,
            words=case.words,
        )

    def take_turns(self) -> None:
        """Let all contenders measure themselves, turn by turn; those who fail are out."""
        turns = list(turns_of(list(self._contenders.values()), self._effort))
        self._progress.begin("bench", total=len(turns), unit="turn")
        for number, contender in turns:
            record = self._records.setdefault(contender, Record(self._new("labels.npz")))
            if record.error is None and self._wanted(contender):
                self._take_turn(number, contender, record)
            self._progress.advance()
        for contender in self._contenders.values():
            self._try_adaptive(contender, self._records[contender])
        self._count_flops()
        self._progress.end()

    def _wanted(self, contender: Contender) -> bool:
        """Whether a row still needs the contender: not a baseline of nothing but errors."""
        if contender.kind == OURS:
            return True
        ours = (each for each in self._contenders.values() if each.plain() == contender)
        return any(self._records[each].error is None for each in ours if each in self._records)

    def _take_turn(self, number: int, contender: Contender, record: Record) -> None:
        """One turn; the first one encodes the words and writes labels."""
        try:
            turn = self._ask(contender, labels=None if number else str(record.labels))
        except AtasError as exc:
            record.error = str(exc)
            if contender.texts not in self._texts:
                self._caches.pop(contender.texts, None)  # words that were encoded untold
            return
        record.turns.append(turn)
        record.text_seconds = self._texts.setdefault(contender.texts, turn["text_s"])

    def _try_adaptive(self, contender: Contender, record: Record) -> None:
        if record.error is not None or not self._effort.adaptive:
            return
        try:
            record.adaptive = self._ask(contender, adaptive=self._effort.adaptive)["adaptive"]
        except AtasError as exc:
            record.error = str(exc)

    def _ask(
        self, contender: Contender, *, labels: str | None = None, adaptive: Sequence[float] = ()
    ) -> dict[str, Any]:
        cache = self._caches.setdefault(contender.texts, self._new("texts"))
        question = {
            "contender": asdict(contender),
            "frames": self._effort.frames,
            "labels": labels,
            "cache": str(cache),
            "adaptive": list(adaptive),
        }

        def broken(how: str) -> AtasError:
            return BackendError(
                f"{contender.model} on {contender.backend}, {contender.device}, {how}; use fewer "
                "words or a smaller --short-side, --size or --batch-size if memory ran out."
            )

        return ask("atas_deploy.bench", json.dumps(question), broken=broken)

    def _count_flops(self) -> None:
        """Count the operations of the encoders, each model by itself; tell why it cannot be."""
        done = {c: r for c, r in self._records.items() if c.kind == OURS and r.error is None}
        for model in dict.fromkeys(contender.model for contender in done):
            records = [record for contender, record in done.items() if contender.model == model]
            sizes = ["x".join(map(str, record.turns[-1]["input"])) for record in records]
            try:
                counts = ask("atas_deploy.bench.flops", model, *sizes, broken=_uncounted)["flops"]
            except AtasError as exc:
                self._progress.note(str(exc))
                continue
            for record, flops in zip(records, counts, strict=True):
                record.flops = flops

    def _new(self, name: str) -> Path:
        """A path of its own."""
        return self._folder / f"{next(self._number)}-{name}"

    def row(self, case: Case) -> dict[str, Any]:
        """The row of a case."""
        if case in self._errors:
            return make_row(case, Record(Path(), error=self._errors[case]), None)
        contender = self._contenders[case]
        plain = self._records[contender.plain()] if self._effort.plain else None
        asked = replace(case, device=contender.device, short_side=contender.short_side)
        return make_row(asked, self._records[contender], plain)


def _uncounted(how: str) -> AtasError:
    return BackendError(f"Counting the encoder's operations {how}.")

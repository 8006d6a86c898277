"""`Worker`: the callable class of the pipeline, which has the model and segments items."""

import os
import pickle
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from atas_deploy.backends.ort_threads import VARIABLE, usable_cores
from atas_deploy.core.errors import AtasError, BackendError
from atas_deploy.core.files import output_error
from atas_deploy.media.sources import Source
from atas_deploy.runtime.image_job import segment_images
from atas_deploy.runtime.journal import Journal
from atas_deploy.runtime.lock import locked
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.outputs import OutputFolder
from atas_deploy.runtime.ray_job.items import Item
from atas_deploy.runtime.record import Settings, settings_of
from atas_deploy.runtime.resume import DoneSources, take_over
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.stops import Stops
from atas_deploy.runtime.tally import Tally
from atas_deploy.runtime.threads import one_thread_each
from atas_deploy.runtime.video_job import segment_video
from atas_deploy.runtime.work import Work

_TRIES = 5  # of an item, before the run gives up
_PATIENCE = 60.0  # seconds in which a worker that lost an item must be gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every worker of a run is told.

    Attributes:
        model: arguments of `Segmenter`.
        settings: what must come of them on every machine.
        options: of the job.
        out: the folder of the results, which all machines see.
        inputs: what the user named.
        force: whether existing results are replaced.
        folder: where the run was started, from which relative paths go.
        per_machine: workers that share a machine.
    """

    model: Mapping[str, Any]
    settings: Settings
    options: JobOptions
    out: Path
    inputs: tuple[str, ...]
    force: bool
    folder: Path
    per_machine: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker says of an item; its lines are in the journal of the item.

    Attributes:
        item: its name.
        notes: for the user.
        error: what ends the run, if anything.
    """

    item: str
    notes: tuple[str, ...]
    error: AtasError | None


@dataclass(slots=True)
class _Notes:
    """Keeps what the user should know; a worker shows no progress."""

    notes: list[str] = field(default_factory=list)

    def begin(self, name: str, *, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


class Worker:
    """Segments items, each into the folder of the run, and keeps their lines there.

    Where an earlier worker of an item was killed, this one goes on behind its last whole line.

    Args:
        task: of the run.
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Segment an item.

        Args:
            row: "item", a pickled `Item`.

        Returns:
            "report", a pickled `Report`.
        """
        item: Item = pickle.loads(row["item"])
        notes, error = _Notes(), None
        try:
            self._segment(item, notes)
        except AtasError as exc:
            error = exc
        report = Report(item=item.name, notes=tuple(notes.notes), error=error)
        return {"report": pickle.dumps(report)}

    def _segment(self, item: Item, notes: _Notes) -> None:
        segmenter = self._segmenter
        files = RunFiles(self._task.out, item=item.name)
        with one_thread_each(), locked(files, patience=_PATIENCE):
            done, tally = _begin(files)
            left = [source for source in item.sources if source.shown not in done]
            _count_try(files, left, notes)
            journal = Journal(files, tally)
            work = Work(
                segmenter=segmenter,
                folder=self._folder,
                journal=journal,
                options=self._task.options,
                progress=notes,
                stops=Stops(),
                force=self._task.force,
            )
            try:
                if item.sources[0].kind == "image":
                    segment_images(work, left, total=len(left))
                else:
                    for source in left:
                        segment_video(work, source)
            finally:
                journal.close()

    @cached_property
    def _folder(self) -> OutputFolder:
        return OutputFolder(
            self._task.out,
            classes=self._segmenter.vocabulary.classes,
            options=self._task.options,
            inputs=self._task.inputs,
        )

    @cached_property
    def _segmenter(self) -> Segmenter:
        """The model, loaded with the first item, so that errors are reported like any other."""
        task = self._task
        try:
            os.chdir(task.folder)
        except OSError as exc:
            raise _elsewhere(task.folder) from exc
        if not RunFiles(task.out).run.exists():
            raise _elsewhere(task.out)
        os.environ.setdefault(VARIABLE, str(max(1, usable_cores() // task.per_machine)))
        segmenter = Segmenter(**task.model)
        if settings_of(segmenter, task.options) != task.settings:
            raise BackendError(
                f"Model, words or settings come out otherwise on {platform.node()}; give all "
                "machines the same release of atas-deploy, the same models and lists of words."
            )
        return segmenter


def _begin(files: RunFiles) -> tuple[DoneSources, Tally]:
    """Take over what a worker that died left of an item; looking for it costs a look at all files.

    Raises:
        OutputError: a journal cannot be read or written.
    """
    if files.last_journal() is None:
        return DoneSources.named(iter(())), Tally()
    return take_over(files)


def _count_try(files: RunFiles, left: Sequence[Source], notes: _Notes) -> None:
    """Note that another worker begins an item, unless that has killed too many.

    Raises:
        BackendError: it has.
        OutputError: the count cannot be kept.
    """
    try:
        with files.tries.open("ab") as stream:
            stream.write(b"+")
            tries = stream.tell()
    except OSError as exc:
        raise output_error(files.tries, exc) from exc
    if tries > 1:
        notes.note("A worker died; its inputs are done again.")
    if tries > _TRIES and left:
        more = f" or one of the {len(left) - 1} inputs after it" if len(left) > 1 else ""
        raise BackendError(
            f"{_TRIES} workers died with {left[0].shown}{more}; leave out the input that does it, "
            "or give fewer workers for more memory each."
        )


def _elsewhere(folder: Path) -> BackendError:
    return BackendError(
        f"{folder} on {platform.node()} is not the folder that it is where the run was started; "
        "let all machines see the same folders under the same names."
    )

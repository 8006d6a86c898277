"""What the phases of a job share."""

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from atas_deploy.core.errors import OutputError
from atas_deploy.media.sources import Source
from atas_deploy.runtime.journal import Journal
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.outputs import OutputFolder
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.stops import Stops

_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def is_hopeless(error: Exception) -> bool:
    """Whether nothing more can be written, as when the disk is full."""
    return isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _HOPELESS


class Progress(Protocol):
    """Where a job tells how far it is."""

    def begin(self, name: str, *, total: int | None, unit: str) -> None:
        """Start a phase of `total` units; None if unknown."""
        ...

    def advance(self, count: int = 1) -> None:
        """Some units are done."""
        ...

    def end(self) -> None:
        """The phase is over."""
        ...

    def note(self, text: str) -> None:
        """Something that the user should know, but no error."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseWork(ABC):
    """The parts of any job.

    Attributes:
        options: what to write.
        progress: where to tell how far the job is.
        stops: puts off signals while files are finished.
        noted: notes that the user has seen.
    """

    options: JobOptions
    progress: Progress
    stops: Stops
    noted: set[str] = field(default_factory=set)

    def note(self, text: str | None) -> None:
        """Tell the user something, once."""
        if text and text not in self.noted:
            self.noted.add(text)
            self.progress.note(text)

    def fail(self, source: Source, error: Exception) -> None:
        """Note what went wrong with a source; go on unless nothing can be written any more.

        Raises:
            OutputError: the same error, if the disk is full or the folder may not be written.
        """
        if is_hopeless(error):
            raise error
        self.note_failure(source.shown, str(error))

    @abstractmethod
    def note_failure(self, source: str, message: str) -> None:
        """Count an input that could not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(BaseWork):
    """The parts of a segmentation job.

    Attributes:
        segmenter: the model with its classes.
        folder: where results go.
        journal: where each line goes.
        force: replace existing results.
    """

    segmenter: Segmenter
    folder: OutputFolder
    journal: Journal
    force: bool

    def note_failure(self, source: str, message: str) -> None:
        """Write the line of an input that could not be used."""
        self.journal.write({"source": source, "error": message})

    def names(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Files as a line names them."""
        return self.journal.files.names(files)

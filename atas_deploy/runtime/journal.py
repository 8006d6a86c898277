"""results.jsonl: the journal of a run, the only record of what is done.

It grows line by line as `results.jsonl.part` and takes its name when the run ends, however that
comes about. A run that was killed leaves the `.part` file, from which `--resume` goes on.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from atas_deploy.core.files import output_error
from atas_deploy.runtime.run_files import RunFiles, discard
from atas_deploy.runtime.tally import Tally


class Journal:
    """Appends to the journal of a run; a line is on its way to the disk when `write` returns.

    Args:
        files: where it lies.
        tally: counts every line written.

    Raises:
        OutputError: it cannot be opened.
    """

    def __init__(self, files: RunFiles, tally: Tally) -> None:
        self.files, self.tally = files, tally
        self._lock = threading.Lock()  # unreadable files are noted by the thread that reads
        try:
            self._stream = files.journal.open("ab", buffering=0)
            self._note = files.writing.open("wb", buffering=0)
        except OSError as exc:
            raise output_error(files.results, exc) from exc

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            OutputError: it cannot be written, as when the disk is full; the journal is as before.
        """
        with self._lock:
            _append(self._stream, encode(row), name=self.files.results)
            self.tally.add(row)

    @contextmanager
    def writing(self, source: str, files: Mapping[str, Path]) -> Iterator[None]:
        """Note which files a source is about to get, and remove them if the block fails.

        After a kill the note tells half of a result from a foreign file of that name.

        Raises:
            OutputError: the note cannot be written.
        """
        try:
            self._note.seek(0)  # to open and empty the file anew costs a millisecond each time
            self._note.write(encode({"source": source, **self.files.names(files)}))
            self._note.truncate()
        except OSError as exc:
            raise output_error(self.files.writing, exc) from exc
        try:
            yield
        except BaseException:
            for path in files.values():
                discard(path)
            raise

    def close(self) -> None:
        """Give the journal its name; what is in it stays valid if that fails.

        Raises:
            OutputError: it cannot be renamed.
        """
        if self._stream.closed:
            return
        self._stream.close()
        self._note.close()
        with suppress(OSError):
            self.files.writing.unlink()
        try:
            self.files.journal.replace(self.files.results)
        except OSError as exc:
            raise output_error(self.files.results, exc) from exc


def encode(row: Mapping[str, Any]) -> bytes:
    """One line; bytes of a file name that are no UTF-8 become escapes, valid JSON."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def _append(stream: FileIO, line: bytes, *, name: Path) -> None:
    """Write a whole line or none."""
    end = stream.seek(0, os.SEEK_END)
    try:
        while line:  # a disk that fills up takes a part first
            line = line[stream.write(line) :]
    except OSError as exc:
        with suppress(OSError):
            stream.truncate(end)
        raise output_error(name, exc) from exc


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal; what a kill or a crash left torn is passed over.

    Raises:
        OutputError: the journal cannot be read.
    """
    try:
        with path.open("rb") as stream:
            for line in stream:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row
    except OSError as exc:
        raise output_error(path, exc) from exc

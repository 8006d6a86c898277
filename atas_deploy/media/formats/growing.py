"""A text file that grows while a run goes on and takes its name at the end."""

from contextlib import suppress
from pathlib import Path

from atas_deploy.core.files import output_error, part_path


class GrowingFile:
    """A file of whole pieces; until it is closed it has a name that ends in ``.part``.

    The ending is written with every piece, and over it the next one: a disk that is full later
    leaves a whole file.

    Args:
        path: The file to create or replace; its folder must exist.
        start: What comes before the pieces.
        ending: What comes after them, at any time.

    Raises:
        OutputError: If it cannot be created.
    """

    def __init__(self, path: Path, *, start: str = "", ending: str = "") -> None:
        self.path = path
        self._part = part_path(path)
        self._ending = ending.encode()
        self._ends = [0]  # of the pieces before the last one, and of all
        try:
            self._stream = self._part.open("xb", buffering=0)
        except OSError as error:
            raise output_error(path, error) from error
        try:
            self.append(start)
        except BaseException:
            self.abort()
            raise

    def append(self, text: str) -> None:
        r"""Write a piece, all of it or nothing; \udcXX of odd file names become escapes.

        Raises:
            OutputError: If it cannot be written, as when the disk is full; the file is as before.
        """
        data, end = text.encode(errors="backslashreplace"), self._ends[-1]
        try:
            self._write(data + self._ending, end)
        except OSError as error:
            self._end_at(end)
            raise output_error(self.path, error) from error
        self._ends = [end, end + len(data)]

    def take_back(self) -> None:
        """Undo the last `append`."""
        self._ends = self._ends[:1]
        self._end_at(self._ends[0])

    def _end_at(self, end: int) -> None:
        """Put the ending where it was before; that takes no new room on the disk."""
        with suppress(OSError):
            self._write(self._ending, end)
        with suppress(OSError):
            self._stream.truncate(end + len(self._ending))

    def _write(self, data: bytes, place: int) -> None:
        self._stream.seek(place)
        while data:  # a disk that fills up takes a part first
            data = data[self._stream.write(data) :]

    def close(self) -> None:
        """Give the file its name.

        Raises:
            OutputError: If that fails; nothing is left behind.
        """
        try:
            self._stream.close()
            self._part.replace(self.path)
        except OSError as error:
            raise output_error(self.path, error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Give up and leave no file behind."""
        with suppress(OSError):
            self._stream.close()
        with suppress(OSError):
            self._part.unlink()

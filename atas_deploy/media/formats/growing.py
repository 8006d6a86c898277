"""A text file that grows while a run goes on and takes its name at the end."""

import os
from contextlib import suppress
from pathlib import Path

from atas_deploy.core.files import output_error, part_path


class GrowingFile:
    """A file of whole pieces; until it is closed it has a name that ends in ``.part``.

    Args:
        path: The file to create or replace; its folder must exist.

    Raises:
        OutputError: If it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = part_path(path)
        try:
            self._stream = self._part.open("xb", buffering=0)
        except OSError as error:
            raise output_error(path, error) from error

    def append(self, text: str) -> None:
        r"""Write a piece, all of it or nothing; \udcXX of odd file names become escapes.

        Raises:
            OutputError: If it cannot be written, as when the disk is full; the file is as before.
        """
        data = text.encode(errors="backslashreplace")
        end = self._stream.seek(0, os.SEEK_END)
        try:
            while data:  # a disk that fills up takes a part first
                data = data[self._stream.write(data) :]
        except OSError as error:
            with suppress(OSError):
                self._stream.truncate(end)
            raise output_error(self.path, error) from error

    def close(self, ending: str = "") -> None:
        """Write the last piece and give the file its name.

        Raises:
            OutputError: If that fails; nothing is left behind.
        """
        try:
            self.append(ending)
            self._stream.close()
            self._part.replace(self.path)
        except OSError as error:  # OutputError is one, too
            self.abort()
            raise output_error(self.path, error) from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up and leave no file behind."""
        with suppress(OSError):
            self._stream.close()
        with suppress(OSError):
            self._part.unlink()

"""Lossless masks of a video's frames: a folder of palette PNGs, or lines of JSON with RLE."""

import errno
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from atas_deploy.core.files import output_error, part_path
from atas_deploy.media.formats import write_label_png
from atas_deploy.media.video.reader import Frame

_FRAME_FILE = re.compile(r"\d{6,}\.png")


class _Masks(ABC):
    """What appears as a whole when the block that writes it succeeds."""

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the result its name, or remove it after an exception."""
        if error is None:
            self.close()
        else:
            self.abort()

    @abstractmethod
    def close(self) -> None:
        """Give the result its name."""

    @abstractmethod
    def abort(self) -> None:
        """Give up and leave nothing behind."""


class MaskSequence(_Masks):
    """A folder with a label PNG for each frame, "000000.png" on, which appears as a whole.

    Until the block that writes it succeeds, the folder has a name that ends in ``.part``; an
    exception removes it. To keep the frames before an error, catch the error inside the block. The
    folder of an earlier run is replaced if there are only such files in it.

    Args:
        folder: The folder to create or replace; its parent must exist.
        palette: (C + 1, 3) uint8 RGB, row 0 the background.

    Raises:
        OutputError: If the folder cannot be created, or one with other files is in the way.
    """

    def __init__(self, folder: Path, palette: npt.NDArray[np.uint8]) -> None:
        self.path = folder
        self._palette = palette
        self._part = part_path(folder)
        with _translated(folder):
            if folder.exists() and not _is_sequence(folder):
                raise FileExistsError(errno.EEXIST, "File exists")
            self._part.mkdir()

    def write(self, labels: npt.NDArray[np.integer], frame: Frame) -> None:
        """Write the label map of a frame under the frame's number.

        Args:
            labels: (H, W) integers: 0 background, then the classes, and void.
            frame: The frame that it belongs to.

        Raises:
            InputError: If a label has no colour.
            OutputError: If the file cannot be written.
        """
        write_label_png(self._part / f"{frame.index:06d}.png", labels, self._palette)

    def close(self) -> None:
        """Give the folder its name.

        Raises:
            OutputError: If that fails.
        """
        try:
            with _translated(self.path):
                old = part_path(self.path)
                if self.path.exists():  # no system replaces a folder with files in it
                    self.path.rename(old)
                self._part.rename(self.path)
                shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up and leave no folder behind."""
        shutil.rmtree(self._part, ignore_errors=True)


class MaskLines(_Masks):
    """A file with one line of JSON for each frame, which appears as a whole.

    A line is ``{"frame": 0, "time": 0.0, "size": [H, W], "rle": {"1": {"size": [H, W], "counts":
    "..."}}}``: for every label that occurs, background left out, its pixels as COCO's compressed
    run-length code. Until it is complete the file has a name that ends in ``.part``; an exception
    removes it. To keep the frames before an error, catch the error inside the block.

    Args:
        path: The file to create or replace; its folder must exist.

    Raises:
        OutputError: If the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = part_path(path)
        with _translated(path):
            self._file = self._part.open("w", encoding="ascii")

    def write(self, labels: npt.NDArray[np.integer], frame: Frame) -> None:
        """Append the label map of a frame.

        Args:
            labels: (H, W) integers: 0 background, then the classes, and void.
            frame: The frame that it belongs to.

        Raises:
            OutputError: If the file cannot be written.
        """
        line = {
            "frame": frame.index,
            "time": round(frame.time, 6),
            "size": list(labels.shape),
            "rle": {str(label): _rle(labels == label) for label in np.unique(labels) if label},
        }
        with _translated(self.path):
            self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: If that fails.
        """
        try:
            with _translated(self.path):
                self._file.close()
                self._part.replace(self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up and leave no file behind."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._part.unlink()


def _rle(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    code = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}


def _is_sequence(folder: Path) -> bool:
    """Tell whether a folder holds nothing but an earlier run's masks."""
    return folder.is_dir() and all(_FRAME_FILE.fullmatch(path.name) for path in folder.iterdir())


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise output_error(target, error) from error

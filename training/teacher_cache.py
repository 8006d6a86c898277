"""The teacher's embeddings of whole images on disk, so that later epochs need not compute them.

One file of fixed-length records, one an image and view: the D numbers in float32, then a checksum
of them. A record counts only if its checksum is right, so a row that was cut off, by a crash of the
process or of the machine, is unknown and computed again. Ranks write different records of the same
file, and every rank reads what the others wrote.

float32, not float16: a row read back is bit for bit the row computed, so a resumed run, which finds
rows of steps that it takes again, repeats the uninterrupted one. 1.2 M images of width 512 take
2.5 GB of disk. Records are read and written one by one rather than mapped: memory does not grow
with the rows touched, and a full disk is an error with a message rather than a signal.

B batch, D embedding width
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from atas_deploy.core.files import output_error
from atas_deploy.training.checkpoint import make_folder

_PREFIX, _SUFFIX = "teacher-", ".cache"
_CHECKSUM_BYTES = 4


def cache_key(teacher: nn.Module, names: Sequence[str], settings: Mapping[str, object]) -> str:
    """What embeddings depend on, as one string.

    Args:
        teacher: whose weights count.
        names: of the images in order; what the files hold is not read.
        settings: of the views: size, mean, precision and so on; JSON values.
    """
    digest = hashlib.sha256(json.dumps([list(names), dict(settings)], sort_keys=True).encode())
    for name, weight in sorted(teacher.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class TeacherCache:
    """Rows of float32 on disk, by image and view.

    Another key, or another shape, starts anew and removes the file of the old one. Nothing stays
    open between calls, so processes may be forked and the cache pickled.

    Args:
        folder: where the file lies; made if needed.
        count: images.
        views: fixed views of each image.
        width: D.
        key: what the rows depend on, see `cache_key`.

    Attributes:
        path: the file.

    Raises:
        OutputError: the folder or the file cannot be made.
    """

    def __init__(self, folder: Path, *, count: int, views: int, width: int, key: str) -> None:
        self.count, self.views, self.width = count, views, width
        self._length = 4 * width + _CHECKSUM_BYTES
        name = hashlib.sha256(f"{count} {views} {width} {key}".encode()).hexdigest()[:32]
        self.path = make_folder(folder) / f"{_PREFIX}{name}{_SUFFIX}"
        for other in folder.glob(f"{_PREFIX}{'?' * 32}{_SUFFIX}"):
            if other != self.path:
                with suppress(OSError):  # another rank removed it, or some system holds it open
                    other.unlink()
        with self._open():
            pass

    def lookup(self, indices: Tensor, view: int = 0) -> tuple[Tensor, Tensor]:
        """Read rows.

        Args:
            indices: (B,) images, integers on the CPU.
            view: which view of them.

        Returns:
            features (B, D) float32 on the CPU, zeros where a row is not known, and known (B,) bool.

        Raises:
            OutputError: the file cannot be opened.
        """
        records = np.zeros((len(indices), self._length), np.uint8)
        with self._open() as file:
            for record, index in zip(records, indices.tolist(), strict=True):
                file.seek(self._offset(index, view))
                file.readinto(record.data)
        rows = records[:, :-_CHECKSUM_BYTES].copy().view(np.float32)
        sums = records[:, -_CHECKSUM_BYTES:].copy().view(np.uint32).ravel()
        expected = np.array([_checksum(row) for row in rows], np.uint32)
        known = sums == expected
        rows[~known] = 0.0
        return torch.from_numpy(rows), torch.from_numpy(known)

    def store(self, indices: Tensor, view: int, features: Tensor) -> None:
        """Write rows; those that are not finite stay unknown.

        Args:
            indices: (B,) images, integers on the CPU.
            view: which view of them.
            features: (B, D) floats, on any device.

        Raises:
            OutputError: they cannot be written.
        """
        rows = features.detach().to("cpu", torch.float32).numpy()
        with self._open() as file:
            for row, index in zip(rows, indices.tolist(), strict=True):
                if np.isfinite(row).all():
                    file.seek(self._offset(index, view))
                    file.write(row.tobytes() + _checksum(row).tobytes())

    def _offset(self, index: int, view: int) -> int:
        assert 0 <= index < self.count
        assert 0 <= view < self.views
        return (index * self.views + view) * self._length

    @contextmanager
    def _open(self) -> Iterator[FileIO]:
        """The file, unbuffered, at its full length; holes read as zeros, which are unknown."""
        size = self.count * self.views * self._length
        try:
            self.path.touch()
            with FileIO(self.path, "r+b") as file:
                if file.seek(0, 2) < size:
                    file.truncate(size)
                yield file
        except OSError as exc:
            raise output_error(self.path, exc) from exc


def _checksum(row: npt.NDArray[np.float32]) -> np.uint32:
    """CRC-32 of a row, made odd: never the zero of a hole."""
    return np.uint32(zlib.crc32(row.tobytes()) | 1)

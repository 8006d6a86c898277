"""Image-text pairs: images in a folder or a tar file, captions in a CSV file.

H W pixels of an image, S side of a training crop, B batch
"""

import csv
import io
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.media.images import read_image

Pixels = npt.NDArray[np.uint8]
COLUMNS = ("image", "caption")


@dataclass(kw_only=True)
class Pairs:
    """Images and their captions.

    Attributes:
        names: image names, sorted.
        captions: the captions of each image, at least one.
        read: decodes an image by name, (H, W, 3) uint8 RGB; raises InputError.
        missing: names in the CSV file without an image.
        broken: images that could not be decoded so far, with the reason.
    """

    names: list[str]
    captions: list[list[str]]
    read: Callable[[str], Pixels]
    missing: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def image(self, index: int) -> Pixels | None:
        """Decode an image; None, and a note in `broken`, if that fails."""
        name = self.names[index]
        if name in self.broken:
            return None
        try:
            return self.read(name)
        except InputError as exc:
            self.broken[name] = str(exc)
            return None

    def subset(self, names: Sequence[str]) -> "Pairs":
        """The pairs of some images, in the order given."""
        at = {name: i for i, name in enumerate(self.names)}
        captions = [self.captions[at[name]] for name in names]
        return Pairs(names=list(names), captions=captions, read=self.read)


def open_pairs(images: Path, captions: Path) -> Pairs:
    """Open images with their captions.

    Args:
        images: a folder (searched below, too) or an uncompressed tar file.
        captions: a CSV file with the columns `image` (file name, or path inside the folder or
            tar) and `caption`; several rows may name one image.

    Raises:
        InputError: a file is missing or malformed, or no caption has its image.
    """
    texts = read_captions(captions)
    found, read = _open_tar(images) if images.is_file() else _open_folder(images)
    names = sorted(texts.keys() & found)
    if not names:
        raise InputError(
            f"None of the {len(texts)} images named in {captions} is in {images}; the column "
            '"image" must hold file names.'
        )
    return Pairs(
        names=names,
        captions=[texts[name] for name in names],
        read=read,
        missing=sorted(texts.keys() - found),
    )


def read_captions(path: Path) -> dict[str, list[str]]:
    """Read a CSV file of captions: name -> captions.

    Raises:
        InputError: it is missing, lacks a column or holds no caption.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise InputError(
                    f'{path} has no column "{absent[0]}"; its first line must be '
                    f"{','.join(COLUMNS)}."
                )
            rows = [(row["image"] or "", (row["caption"] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InputError(
            f"{path} cannot be read ({exc}); give a UTF-8 CSV file with the columns "
            f"{', '.join(COLUMNS)}."
        ) from exc
    texts: dict[str, list[str]] = {}
    for name, caption in rows:
        if name and caption:
            texts.setdefault(name, []).append(caption)
    if not texts:
        raise InputError(f"{path} holds no caption; give one image and caption a line.")
    return texts


def crop(image: Pixels, rng: np.random.Generator, *, size: int, scale: float, mode: str) -> Pixels:
    """Cut a random part of an image and resize it to a square.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: where to cut.
        size: side of the result, S.
        scale: smallest part of each side that is kept, in (0, 1].
        mode: "squash" keeps the image's shape before resizing, so that the whole image is squashed
            into the square; anything else cuts a square, as open_clip's "shortest" does.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    if mode != "squash":
        height = width = min(height, width)
    kept = rng.uniform(scale, 1.0)
    h, w = max(1, round(height * kept)), max(1, round(width * kept))
    top = int(rng.integers(0, image.shape[0] - h + 1))
    left = int(rng.integers(0, image.shape[1] - w + 1))
    part = image[top : top + h, left : left + w]
    if part.shape[:2] == (size, size):
        return part
    shrinks = h > size and w > size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (size, size), interpolation=how), dtype=np.uint8)


def _open_folder(folder: Path) -> tuple[set[str], Callable[[str], Pixels]]:
    """Names below a folder, by relative path and (if unambiguous, the last wins) by file name."""
    if not folder.is_dir():
        raise InputError(f"{folder} is neither a folder of images nor a tar file; check the path.")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = {path.name: path for path in files}
    paths |= {path.relative_to(folder).as_posix(): path for path in files}
    return set(paths), lambda name: read_image(paths[name])


def _open_tar(path: Path) -> tuple[set[str], Callable[[str], Pixels]]:
    """Names in an uncompressed tar file; its images are read at their offsets."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isfile()]
    except (OSError, tarfile.TarError) as exc:
        raise InputError(
            f"{path} cannot be read as an uncompressed tar file ({exc}); unpack it into a folder."
        ) from exc
    places = {PurePosixPath(m.name).name: (m.offset_data, m.size) for m in members}
    places |= {m.name.removeprefix("./"): (m.offset_data, m.size) for m in members}

    def read(name: str) -> Pixels:
        offset, size = places[name]
        with path.open("rb") as file:
            content = os.pread(file.fileno(), size, offset)
        return _decode(content, name=f"{name} in {path}")

    return set(places), read


def _decode(content: bytes, *, name: str) -> Pixels:
    """Decode an image file held in memory, (H, W, 3) uint8 RGB."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise InputError(f"{name} is not an image that can be read; replace or remove it.") from exc

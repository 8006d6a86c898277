"""The files of each source: label maps, overlays, arrays.

OUT/NAME.labels.png    label map of an image (palette PNG)
OUT/NAME.npz           labels and probability of an image, if asked for
OUT/NAME.overlay.jpg   overlay of an image with legend; .png if a side is too long for JPEG
OUT/NAME.overlay.mp4   overlay of a video (H.264, original time stamps and audio)
OUT/NAME.masks/        label maps of a video, or NAME.masks.jsonl, if asked for
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.classes import ClassSpec
from atas_deploy.core.errors import OutputError
from atas_deploy.core.files import output_error
from atas_deploy.core.palette import class_palette_for
from atas_deploy.core.results import Segmentation
from atas_deploy.media.formats import JPEG_MAX_SIDE, write_image, write_label_png, write_npz
from atas_deploy.media.overlay import blend, draw_legend, side_by_side
from atas_deploy.media.sources import Found, Source
from atas_deploy.media.walk import RESULT_SUFFIXES, real_path
from atas_deploy.runtime.journal import read_rows
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.resume import DoneSources
from atas_deploy.runtime.run_files import FILE_KEYS, MASKS_SUFFIX, RunFiles

Image = npt.NDArray[np.uint8]
_RESULT_SUFFIXES = (*RESULT_SUFFIXES, ".npz", ".jsonl")
_MOST_FOREIGN = 10  # files in the way for each of which the whole journal is read
_LONGEST_NAME = 200  # bytes; file systems allow 255, suffixes and `.part` need some


class OutputFolder:
    """Names and writes the files of sources.

    Args:
        path: the folder.
        classes: the user's classes.
        options: what to write.
        inputs: what the user named; no file that it stands for is ever replaced.
    """

    def __init__(
        self,
        path: Path,
        *,
        classes: Sequence[ClassSpec],
        options: JobOptions,
        inputs: Iterable[str] = (),
    ) -> None:
        self.path = path
        self.palette = class_palette_for(classes)
        self._names = tuple(spec.name for spec in classes)
        self._options = options
        self._inputs = tuple(inputs)
        self._rows: Iterator[dict[str, Any]] = iter(())  # of the journal, from the last one found
        self._foreign = 0

    def targets(self, source: Source, *, size: tuple[int, int] | None = None) -> dict[str, Path]:
        """The files that a source becomes, by the key that names them in its line.

        Args:
            source: an image or a video.
            size: (height, width) of an image; None = of no unusual size.
        """
        video = source.kind == "video"
        suffixes = self._video_suffixes() if video else self._image_suffixes(size)
        return {kind: self.path_of(source, end) for kind, end in suffixes.items()}

    def path_of(self, source: Source, end: str) -> Path:
        """The file of a source whose name has an end such as ".overlay.jpg"."""
        stem = self.path / _short_name(source.name)
        return stem.with_name(stem.name + end)

    def _image_suffixes(self, size: tuple[int, int] | None) -> dict[str, str]:
        suffixes = {"labels": ".labels.png"}
        if self._options.overlay:
            too_long = size is not None and self._too_long_for_jpeg(size)
            suffixes["overlay"] = ".overlay.png" if too_long else ".overlay.jpg"
        if self._options.npz:
            suffixes["npz"] = ".npz"
        return suffixes

    def _too_long_for_jpeg(self, size: tuple[int, int]) -> bool:
        if 3 * max(size) <= JPEG_MAX_SIDE:  # two pictures and a line are shorter than three
            return False
        return max(self.overlay_size(size)) > JPEG_MAX_SIDE

    def _video_suffixes(self) -> dict[str, str]:
        suffixes = {"overlay": ".overlay.mp4"} if self._options.overlay else {}
        if self._options.masks == "png":
            suffixes["masks"] = MASKS_SUFFIX
        elif self._options.masks == "rle":
            suffixes["masks"] = f"{MASKS_SUFFIX}.jsonl"
        return suffixes

    def check_room(
        self, source: Source, *, force: bool, size: tuple[int, int] | None = None
    ) -> None:
        """Raise if a file is in the way of a source's results; `size` as for `targets`.

        Raises:
            OutputError: a file exists and `force` is off, or it is an input.
        """
        for path in self.targets(source, size=size).values():
            if os.path.lexists(path):
                self._refuse_overwrite(path, force=force)

    def make_room(self, source: Source, *, size: tuple[int, int] | None = None) -> dict[str, Path]:
        """Make the folders of a source's files and return the files; `size` as for `targets`.

        Raises:
            OutputError: a folder cannot be made.
        """
        targets = self.targets(source, size=size)
        for path in targets.values():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise output_error(path, exc) from exc
        return targets

    def is_input(self, path: Path) -> bool:
        """Whether a file, or a folder of masks, is an input or holds one."""
        return os.path.realpath(path) in self._kept

    def _refuse_overwrite(self, path: Path, *, force: bool) -> None:
        if self.is_input(path):
            what = "holds inputs" if path.name.endswith(MASKS_SUFFIX) else "is an input"
            raise OutputError(
                f"{path} {what} and would be replaced by a result; choose another folder with "
                "--out."
            )
        if force:
            return
        if before := self._result_of(path):
            raise OutputError(
                f"{path} is the result of {before}; if that is this input, named otherwise before, "
                "name inputs in the same way to go on, else choose another folder with --out."
            )
        raise OutputError(
            f"{path} is in the way and no result of this run; move it away, or replace it with "
            "--force."
        )

    @cached_property
    def _kept(self) -> DoneSources:
        """Real paths of inputs named like results, and of folders of masks that hold inputs.

        They take 8 bytes each. Found in a walk over all inputs, those of other shards too, once
        something is in the way.
        """
        found = Found(self._inputs, excluded=real_path(self.path), shard=None)
        files = (source.location for source in found.sources if isinstance(source.location, Path))
        return DoneSources.named(real for file in files for real in _result_paths(file))

    def _result_of(self, path: Path) -> str | None:
        """The input that a file is the result of by the journal of a run that goes on.

        Files come up in the order of its lines, mostly, so it is read on from the last one found.
        """
        journal = RunFiles(self.path, self._options.shard).last_journal()
        if not self._options.resume or journal is None or self._foreign == _MOST_FOREIGN:
            return None
        name = path.relative_to(self.path).as_posix()
        for rows in (self._rows, read_rows(journal)):
            self._rows = rows
            for row in rows:
                if any(row.get(key) == name for key in FILE_KEYS):
                    return str(row["source"])
        self._foreign += 1
        return None

    def write_image(
        self, image: Image, result: Segmentation, targets: Mapping[str, Path]
    ) -> list[dict[str, Any]]:
        """Write the files of an image and return its classes as its line lists them."""
        write_label_png(targets["labels"], result.labels, self.palette)
        if "npz" in targets:
            write_npz(targets["npz"], result)
        classes = result.summary()
        if "overlay" in targets:
            by_area = sorted(classes, key=lambda entry: -float(entry["area"]))
            present = [int(entry["id"]) for entry in by_area]
            write_image(targets["overlay"], self.overlay(image, result, legend=present))
        return classes

    def overlay(
        self,
        image: Image,
        result: Segmentation,
        *,
        legend: Sequence[int] | None = None,
        tinted: Image | None = None,
    ) -> Image:
        """Blend a result over its image (H, W, 3) uint8 RGB, with a legend of some classes.

        Args:
            image: the picture.
            result: its segmentation.
            legend: class numbers; None = all.
            tinted: what `blend` makes of them, where that is known.

        Returns:
            (H, W, 3) uint8 RGB; side by side with the picture if that was asked for.
        """
        if tinted is None:
            tinted = blend(image, result.labels, self.palette, opacity=self._options.opacity)
        shown = range(1, len(self._names) + 1) if legend is None else legend
        entries = [(self._names[i - 1], tuple(self.palette[i].tolist())) for i in shown]
        named = draw_legend(tinted, entries)
        return side_by_side(image, named) if self._options.view == "side" else named

    def overlay_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the overlay of a picture of a size."""
        black = np.zeros((*size, 3), np.uint8)
        return side_by_side(black, black).shape[:2] if self._options.view == "side" else size


def _result_paths(path: Path) -> Iterator[str]:
    """Which real paths a result must not have, lest an input is lost."""
    real = Path(os.path.realpath(path))
    if path.name.endswith(_RESULT_SUFFIXES) or real.name.endswith(_RESULT_SUFFIXES):
        yield str(real)
    for folder in (*path.parents, *real.parents):
        if folder.name.endswith(MASKS_SUFFIX):
            yield os.path.realpath(folder)


def _short_name(name: str) -> str:
    """A relative name whose last part leaves room for suffixes; a hash keeps it unique."""
    folder, _, last = name.rpartition("/")
    data = os.fsencode(last)
    if len(data) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(data).hexdigest()[:8]
    short = f"{data[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"
    return f"{folder}/{short}" if folder else short

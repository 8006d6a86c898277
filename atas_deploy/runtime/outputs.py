"""What a segmentation job writes: label maps, overlays, a line of JSON a picture, and its settings.

OUT/NAME.labels.png    label map of an image (palette PNG)
OUT/NAME.overlay.jpg   overlay of an image with legend
OUT/NAME.overlay.mp4   overlay of a video (H.264, original time stamps and audio)
OUT/results.jsonl      one object per image or video frame
OUT/run.json           model, words, rules and what became of every input
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np
import numpy.typing as npt

from atas_deploy import __version__
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.files import atomic_path, output_error, part_path
from atas_deploy.core.palette import class_palette
from atas_deploy.core.results import Segmentation
from atas_deploy.media.formats import write_image, write_label_png
from atas_deploy.media.overlay import blend, draw_legend
from atas_deploy.media.sources import Source
from atas_deploy.runtime.segment import Segmenter

RESULTS = "results.jsonl"
RUN = "run.json"
_ESCAPE = "backslashreplace"  # bytes of a file name that are no UTF-8 become \\udcXX, valid JSON
_LONGEST_NAME = 200  # bytes; file systems allow 255, suffixes and `.part` need some


class OutputFolder:
    """Names and writes the files of a job.

    Args:
        path: the folder; made if missing.
        class_names: the user's classes.
        opacity: of the colours in overlays, in [0, 1].

    Raises:
        ConfigError: the opacity is out of range.
        OutputError: the folder cannot be made.
    """

    def __init__(self, path: Path, *, class_names: Sequence[str], opacity: float) -> None:
        if not 0 <= opacity <= 1:
            raise ConfigError(f"The opacity is {opacity}; expected a number in [0, 1].")
        self.path = path
        self.opacity = opacity
        self._palette = class_palette(len(class_names))
        self._names = tuple(class_names)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise output_error(path, exc) from exc

    def targets(self, source: Source) -> dict[str, Path]:
        """The files that a source becomes, by kind: labels and overlay, or overlay."""
        suffixes = {"labels": ".labels.png", "overlay": ".overlay.jpg"}
        if source.kind == "video":
            suffixes = {"overlay": ".overlay.mp4"}
        stem = self.path / _short_name(source.name)
        return {kind: stem.with_name(stem.name + end) for kind, end in suffixes.items()}

    def refuse_overwrite(self, sources: Sequence[Source], *, force: bool) -> None:
        """Raise if a file of this job exists, or, with force, if it is an input.

        Raises:
            ConfigError: naming the first such file.
        """
        planned = [self.path / RESULTS, self.path / RUN]
        planned += [path for source in sources for path in self.targets(source).values()]
        existing = [path for path in planned if path.exists()]
        if existing and not force:
            raise ConfigError(
                f"{existing[0]} exists already; choose another folder with --out, or replace the "
                "results with --force."
            )
        inputs = {source.path.resolve() for source in sources}
        if taken := [path for path in existing if path.resolve() in inputs]:
            raise ConfigError(
                f"{taken[0]} is an input and would be replaced by a result; choose another folder "
                "with --out."
            )

    def make_room(self, source: Source) -> dict[str, Path]:
        """Make the folders of a source's files and return the files."""
        targets = self.targets(source)
        for path in targets.values():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise output_error(path, exc) from exc
        return targets

    def write_image(
        self, source: Source, image: npt.NDArray[np.uint8], result: Segmentation
    ) -> dict[str, Any]:
        """Write the files of an image and return its line of results."""
        targets = self.make_room(source)
        write_label_png(targets["labels"], result.labels, self._palette)
        classes = result.summary()
        by_area = sorted(classes, key=lambda entry: -float(entry["area"]))
        present = [int(entry["id"]) for entry in by_area]
        write_image(targets["overlay"], self.overlay(image, result, legend=present))
        files = {kind: path.relative_to(self.path).as_posix() for kind, path in targets.items()}
        return {"source": str(source.path), **_size(image), **files, "classes": classes}

    def overlay(
        self,
        image: npt.NDArray[np.uint8],
        result: Segmentation,
        *,
        legend: Sequence[int] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Blend a result over its image (H, W, 3) uint8 RGB, with a legend of some classes.

        Args:
            image: the picture.
            result: its segmentation.
            legend: class numbers; None = all.
        """
        tinted = blend(image, result.labels, self._palette, opacity=self.opacity)
        shown = range(1, len(self._names) + 1) if legend is None else legend
        entries = [(self._names[i - 1], tuple(self._palette[i].tolist())) for i in shown]
        return draw_legend(tinted, entries)


def _short_name(name: str) -> str:
    """A relative name whose last part leaves room for suffixes; a hash keeps it unique."""
    folder, _, last = name.rpartition("/")
    data = os.fsencode(last)
    if len(data) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(data).hexdigest()[:8]
    short = f"{data[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"
    return f"{folder}/{short}" if folder else short


def _size(image: npt.NDArray[np.uint8]) -> dict[str, int]:
    return {"height": image.shape[0], "width": image.shape[1]}


class ResultLog:
    """results.jsonl: grows as a `.part` file, takes its name when closed, even after a failure."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, part_path(path)

    def __enter__(self) -> Self:
        try:
            self._stream: TextIO = self._part.open("w", encoding="utf-8", errors=_ESCAPE)
        except OSError as exc:
            raise output_error(self._path, exc) from exc
        return self

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one object."""
        try:
            self._stream.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._stream.flush()
        except OSError as exc:
            raise output_error(self._path, exc) from exc

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # what could be written is kept; the cause is already on its way
            self._stream.close()
        try:
            self._part.replace(self._path)
        except OSError as exc:
            raise output_error(self._path, exc) from exc


def write_run(path: Path, *, segmenter: Segmenter, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Write run.json: everything that decides the masks, and what became of each input.

    Raises:
        OutputError: it cannot be written.
    """
    vocabulary, manifest = segmenter.vocabulary, segmenter.bundle.manifest
    record = {
        "atas_deploy": __version__,
        "complete": all("error" not in entry for entry in inputs),
        "model": {
            "name": manifest.name,
            "readout": manifest.readout,
            "fingerprint": segmenter.bundle.fingerprint,
        },
        "classes": [list(spec.synonyms) for spec in vocabulary.classes],
        "background": {
            "rule": vocabulary.rule,
            "words": vocabulary.background,
            "removed": vocabulary.removed,
        },
        "queries_hash": vocabulary.hash,
        "templates": segmenter.templates,
        "logit_scale": segmenter.logit_scale,
        "threshold": segmenter.threshold,
        "short_side": segmenter.short_side,
        "backend": segmenter.backend.name,
        "device": segmenter.backend.device,
        "inputs": inputs,
    }
    with atomic_path(path) as part:
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        part.write_text(text, encoding="utf-8", errors=_ESCAPE)

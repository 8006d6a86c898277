"""Ground truth in folders: pictures, and label PNGs that are named as they are."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from atas_deploy.core.class_spec import shorten
from atas_deploy.core.errors import AnnotationError, ConfigError, InputError
from atas_deploy.evaluation.coco_data import read_names
from atas_deploy.evaluation.label_values import LabelValues
from atas_deploy.evaluation.truth import VOID, Example, LabelMap
from atas_deploy.media.annotations import read_label_map
from atas_deploy.media.images import IMAGE_SUFFIXES


class LabelFolder:
    """Pictures in one folder, label PNGs of 8 or 16 bits in another, matched by name.

    A PNG belongs to the picture with the same path below its folder, both without suffix; pictures
    without PNG, and PNGs without picture, are left out. A palette PNG counts by its indices. Value
    `first_label` is the first class, the next one the second, and so on. With `first_label=1` the
    value 0 is background.

    Args:
        images: folder of pictures.
        labels: folder of PNGs.
        first_label: value of the first class, 0 or 1.
        ignore: values of pixels that do not count.
        values: what each value means instead; other values do not count.
        image_suffix: what names of pictures have behind the common part ("_leftImg8bit").
        label_suffix: what names of PNGs have behind it ("_gtFine_labelTrainIds").
        names: file with the names of the pictures to take, one a line, without suffix; None = all.
        limit: take the first so many only.

    Raises:
        ConfigError: `first_label` is neither, or a value to ignore cannot be in a PNG.
        InputError: a folder cannot be read, a name of the file has no PNG, or no PNG a picture.
    """

    def __init__(
        self,
        images: Path,
        labels: Path,
        *,
        first_label: int = 1,
        ignore: Sequence[int] = (255,),
        values: LabelValues | None = None,
        image_suffix: str = "",
        label_suffix: str = "",
        names: Path | None = None,
        limit: int | None = None,
    ) -> None:
        if first_label not in (0, 1):
            raise ConfigError(f"The first label is {first_label}; expected 0 or 1.")
        if wrong := [value for value in ignore if not 0 <= value <= VOID]:
            raise ConfigError(f"Cannot ignore the value {wrong[0]}; expected 0 to {VOID}.")
        self.first_label, self.ignore = first_label, tuple(ignore)
        self._source = {"images": str(images), "labels": str(labels)}
        self._values = values
        self.class_names = None if values is None else values.class_names
        self.has_background = first_label == 1 and 0 not in self.ignore
        if values is not None:
            self.has_background = 0 in values.labels.values()
        maps = _by_stem(labels, suffixes={".png"}, end=label_suffix)
        pictures = _by_stem(images, suffixes=IMAGE_SUFFIXES, end=image_suffix)
        wanted = list(maps) if names is None else _listed(names, maps, labels)
        there = [name for name in wanted if name in pictures]
        if not there:
            raise InputError(
                f"None of the {len(wanted)} pictures of {names or labels} is in {images}: expected "
                f"{wanted[0]}{image_suffix} with an image's suffix; check both folders."
            )
        self._pairs = [(name, pictures[name], maps[name]) for name in there[:limit]]
        self._missing = len(wanted) - len(there)
        self._without_labels = len(pictures.keys() - maps.keys()) if names is None else 0

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._pairs)

    def __iter__(self) -> Iterator[Example]:
        """The pictures in the order of their names."""
        for name, image, path in self._pairs:
            yield Example(name, image, partial(self._read, path))

    def facts(self) -> dict[str, Any]:
        """The folders, and the rule from values to classes."""
        return {
            **self._source,
            **self._rule(),
            "images_missing": self._missing,
            "pictures_without_labels": self._without_labels,
        }

    def _rule(self) -> dict[str, Any]:
        """What the values mean."""
        if self._values is not None:
            return {"label_values": str(self._values.path)}
        return {"first_label": self.first_label, "ignored_values": list(self.ignore)}

    def _read(self, path: Path, classes: int) -> LabelMap:
        """A PNG's values as labels of 0..C or VOID.

        Raises:
            AnnotationError: it cannot be read, or a value is no class.
        """
        values = read_label_map(path)
        if self._values is not None:
            meant = np.full(VOID + 1, VOID, np.uint16)
            meant[list(self._values.labels)] = list(self._values.labels.values())
            return np.asarray(meant[values])
        most = max(int(values.max()), *self.ignore, classes + 1) + 1
        label_of = np.full(most, -1, np.int32)
        label_of[self.first_label : classes + self.first_label] = np.arange(1, classes + 1)
        if self.first_label:
            label_of[0] = 0
        label_of[list(self.ignore)] = VOID
        labels = label_of[values]
        if (labels < 0).any():
            value = int(values[labels < 0][0])
            raise AnnotationError(
                f"{path} has the value {value}, but with {classes} classes from value "
                f"{self.first_label} on the last is {classes + self.first_label - 1}; check the "
                "class list and --first-label, ignore the value, or say with --label-values what "
                "values mean."
            )
        return labels.astype(np.uint16)


def _by_stem(folder: Path, *, suffixes: Collection[str], end: str) -> dict[str, Path]:
    """Files below a folder by their path in it, without `end` and suffix, sorted.

    Raises:
        InputError: the folder is none, or two files have one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the folder of the files.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in suffixes and path.stem.endswith(end):
            key = path.relative_to(folder).with_suffix("").as_posix().removesuffix(end)
            if key in found:
                raise InputError(f"{found[key]} and {path} have one name; keep one of them.")
            found[key] = path
    if not found:
        kind = "PNGs" if suffixes == {".png"} else "images"
        ending = f' whose names end in "{end}"' if end else ""
        raise InputError(f"{folder} holds no {kind}{ending}; check the folder.")
    return found


def _listed(file: Path, maps: dict[str, Path], labels: Path) -> list[str]:
    """The names that a file lists.

    Raises:
        InputError: it cannot be read, or names what has no labels.
    """
    names = read_names(file)
    for name in names:
        if name not in maps:
            raise InputError(f'{file} names "{shorten(name)}", which has no labels in {labels}.')
    return names

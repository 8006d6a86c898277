"""Ground truth of segmentation: pictures with label maps; those of COCO panoptic files.

C classes; in every label map here 0 is background, i is class i of 1..C, and `VOID` does not count.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import AnnotationError, ConfigError
from atas_deploy.core.geometry import Size
from atas_deploy.evaluation.coco_data import present
from atas_deploy.media.annotations import CocoImage, PanopticFile

VOID = 65_535
LabelMap = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Example:
    """A picture with its truth.

    Attributes:
        name: of the picture, as its row has it.
        image: its file.
        truth: gives its label map for C classes, (H, W) uint16 in 0..C or `VOID`.
    """

    name: str
    image: Path
    truth: Callable[[int], LabelMap]

    def labels(self, size: Size, *, classes: int) -> LabelMap:
        """Its label map.

        Args:
            size: (H, W) of the picture.
            classes: C.

        Raises:
            AnnotationError: the map cannot be read, has another size or a value of no class.
        """
        found = self.truth(classes)
        if found.shape != size:
            raise AnnotationError(
                f"The labels of {self.image} are {found.shape[0]} x {found.shape[1]} pixels (height"
                f" x width), but the picture is {size[0]} x {size[1]}; give labels of its size."
            )
        return found


class Truth(Protocol):
    """Pictures with label maps.

    Attributes:
        class_names: what the classes are called; None if the data do not say.
        has_background: whether label 0 can occur.
    """

    class_names: tuple[str, ...] | None
    has_background: bool

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def __iter__(self) -> Iterator[Example]:
        """The pictures in order."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the label maps depend on, JSON-ready."""
        ...


class PanopticTruth:
    """COCO panoptic annotations as label maps: each segment's pixels are of its category.

    Args:
        file: the annotations.
        images: folder of the pictures that they name.
        names: file with the names of the pictures to take, one a line; None = all.
        limit: take the first so many only, of those that are in the folder.

    Raises:
        InputError: none is in the folder, or a name is none of the file's.
    """

    has_background = False

    def __init__(
        self,
        file: PanopticFile,
        images: Path,
        *,
        names: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self._file, self._folder = file, images
        found = present(file.images, images, source=file.path, names=names, limit=limit)
        self._images, self._missing = found.images, found.missing
        self.class_names: tuple[str, ...] | None = tuple(
            plain_name(category.name) for category in file.categories
        )

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._images)

    def __iter__(self) -> Iterator[Example]:
        """The pictures in the order of the file."""
        for image in self._images:
            path = self._folder / image.file_name
            yield Example(image.file_name, path, partial(self._read, image))

    def facts(self) -> dict[str, Any]:
        """The data; the file's categories, in its order, are the classes."""
        return {
            "images": str(self._folder),
            "panoptic": str(self._file.path),
            "images_missing": self._missing,
        }

    def _read(self, image: CocoImage, _: int) -> LabelMap:
        category = self._file.semantic(image).astype(np.int64)
        labels = np.where(category == self._file.ignore_index, VOID, category + 1)
        return labels.astype(np.uint16)


def check_count(truth: Truth, classes: int) -> None:
    """Refuse a class list that is longer or shorter than the one that the data bring.

    Raises:
        ConfigError: it is.
    """
    if truth.class_names is not None and len(truth.class_names) != classes:
        raise ConfigError(
            f"Got {classes} classes for data with {len(truth.class_names)} categories; give a "
            "class for each, in their order, or leave --classes out."
        )


def plain_name(name: str) -> str:
    """A COCO category's name as a person would write it: "wall-other-merged" is "wall"."""
    for suffix in ("-merged", "-other", "-stuff"):
        name = name.replace(suffix, "")
    return {"playingfield": "playing field", "waterdrops": "water drops"}.get(
        name, name.replace("-", " ")
    )

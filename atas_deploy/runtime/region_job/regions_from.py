"""Where the regions of a picture come from: a file, a grid, or the picture itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from atas_deploy.core.region import Region
from atas_deploy.media.annotations import (
    Faults,
    Picture,
    RegionFile,
    open_boxes,
    open_masks,
)
from atas_deploy.runtime.encode import Encoded
from atas_deploy.runtime.regions import TrackLinker, grid_regions, propose
from atas_deploy.runtime.settle import check_whole

Finder = Callable[[Encoded], Sequence[Region]]


class RegionsFrom(Protocol):
    """Gives the regions of pictures.

    Attributes:
        class_names: the classes that `Region.category` counts; None if there are none.
        path: the file that they come from, or None.
        faults: regions of the file that were left out.
    """

    class_names: tuple[str, ...] | None
    path: Path | None
    faults: Faults

    def regions(
        self, picture: Picture, linker: TrackLinker | None = None
    ) -> Sequence[Region] | Finder:
        """The regions of a picture, or how to find them once it is encoded.

        Args:
            picture: what they are asked for.
            linker: gives tracks to those of a video that bring none; None = a picture.

        Raises:
            AnnotationError: those in a file cannot be used.
        """
        ...

    def image_id(self, picture: Picture) -> int | None:
        """Number of a picture in the file; None if it has none."""
        ...

    def problem(self) -> str | None:
        """One sentence if the file seems to be for other pictures; None if not."""
        ...

    def settings(self) -> dict[str, Any]:
        """What decides the regions, JSON-ready."""
        ...


class FileRegions:
    """The regions of a file of annotations.

    Args:
        file: what `open_boxes` or `open_masks` gave.
        kind: "boxes" or "masks".
    """

    def __init__(self, file: RegionFile, *, kind: str) -> None:
        self.path: Path | None = file.path
        self.class_names = file.class_names
        self.faults = file.faults
        self._file, self._kind = file, kind

    @classmethod
    def boxes(cls, path: Path) -> "FileRegions":
        """Open a file of boxes; errors as by `open_boxes`."""
        return cls(open_boxes(path), kind="boxes")

    @classmethod
    def masks(cls, path: Path) -> "FileRegions":
        """Open a file of masks; errors as by `open_masks`."""
        return cls(open_masks(path), kind="masks")

    def regions(self, picture: Picture, linker: TrackLinker | None = None) -> list[Region]:
        """Those of the file; where it says no tracks, they are linked by overlap."""
        found = self._file.regions(picture)
        return linker(found) if linker is not None else found

    def image_id(self, picture: Picture) -> int | None:
        """COCO's number of the picture."""
        return self._file.image_id(picture)

    def problem(self) -> str | None:
        """Names of the file and of the inputs that seem to differ."""
        return self._file.mismatch()

    def settings(self) -> dict[str, Any]:
        """Kind and file."""
        return {"kind": self._kind, "file": str(self.path)}


class _NoFile:
    """Regions that no file brings."""

    path: Path | None = None
    class_names: tuple[str, ...] | None = None
    faults = Faults()  # there never are any

    def image_id(self, picture: Picture) -> None:
        """None."""

    def problem(self) -> None:
        """None."""


class GridRegions(_NoFile):
    """The boxes of a grid; those of a video's frames stand for no object, so they get no track.

    Args:
        cells: how many there are along each side.

    Raises:
        ConfigError: it is no whole number above 0.
    """

    def __init__(self, cells: int) -> None:
        self._cells = check_whole("grid", cells, "a whole number of cells above 0")

    def regions(self, picture: Picture, linker: TrackLinker | None = None) -> list[Region]:
        """The boxes, row by row."""
        return grid_regions(picture.size, rows=self._cells, columns=self._cells)

    def settings(self) -> dict[str, Any]:
        """Kind and cells."""
        return {"kind": "grid", "cells": self._cells}


class ProposedRegions(_NoFile):
    """Regions that the features of a picture suggest."""

    def regions(self, picture: Picture, linker: TrackLinker | None = None) -> Finder:
        """A function that finds them."""

        def find(encoded: Encoded) -> list[Region]:
            found = propose(encoded)
            return linker(found) if linker is not None else found

        return find

    def settings(self) -> dict[str, Any]:
        """Kind."""
        return {"kind": "proposals"}

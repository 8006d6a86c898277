"""A file of boxes or masks, asked picture by picture."""

from collections.abc import Callable, Sequence
from pathlib import Path

from atas_deploy.core.geometry import Size
from atas_deploy.core.region import Region
from atas_deploy.media.annotations.faults import Faults
from atas_deploy.media.annotations.matching import Entries
from atas_deploy.media.annotations.picture import Picture

_SHOWN = 3  # names in a message


class RegionFile:
    """The regions of a file, by picture.

    Attributes:
        path: of the file or folder.
        class_names: the classes that `Region.category` counts, from 0 on; None if the file has no
            names for them.
        faults: what was asked for and left out, with the reasons.
    """

    def __init__(
        self,
        path: Path,
        entries: Entries,
        read: Callable[[int, Picture], list[Region]],
        *,
        faults: Faults | None = None,
        class_names: Sequence[str] | None = None,
        image_ids: Sequence[int] | None = None,
        image_sizes: Sequence[Size] | None = None,
    ) -> None:
        """A file of entries.

        Args:
            path: of the file or folder.
            entries: which pictures it is for.
            read: the regions of entry i for a picture, as `read(i, picture)`.
            faults: where `read` notes what it leaves out.
            class_names: as the attribute.
            image_ids: the number of each entry's picture in COCO; None if it is no COCO file.
            image_sizes: (H, W) of each entry's picture; None if the file does not say them.
        """
        self.path = path
        self.class_names = None if class_names is None else tuple(class_names)
        self.faults = Faults() if faults is None else faults
        self._entries = entries
        entries.faults = self.faults
        self._read = read
        self._image_ids, self._image_sizes = image_ids, image_sizes
        self._without = 0  # pictures asked for that the file has nothing for
        self._videos: dict[str, bool] = {}  # whether it has something for any of their frames

    def regions(self, picture: Picture) -> list[Region]:
        """The regions of a picture, in the order of the file; none if the file has none for it.

        Raises:
            AnnotationError: they are damaged or do not fit the picture, or the picture's name is
                not enough to tell which are meant.
        """
        index = self._entries.find(picture)
        if picture.frame is None:
            self._without += index is None
        else:
            self._videos[picture.name] = self._videos.get(picture.name, False) or index is not None
        return [] if index is None else self._read(index, picture)

    def image_id(self, picture: Picture) -> int | None:
        """COCO's number of a picture; None if the file has no such numbers, or none for it.

        Raises:
            AnnotationError: the picture's name is not enough to tell which is meant.
        """
        found = self._entries.look_up(picture)
        return None if found is None or self._image_ids is None else self._image_ids[found.index]

    def image_size(self, name: str) -> Size | None:
        """(H, W) that the file says of a picture; None if it says none, or has none for it.

        Args:
            name: path or file name of the picture.

        Raises:
            AnnotationError: the name is not enough to tell which is meant.
        """
        found = self._entries.look_up(Picture(name, (0, 0)))
        return None if found is None or not self._image_sizes else self._image_sizes[found.index]

    def unmatched(self) -> list[str]:
        """Names of pictures in the file that were never asked for."""
        return self._entries.unmatched()

    def mismatch(self) -> str | None:
        """One sentence, with the cure, if names of the file and of the pictures seem to differ.

        That is if pictures were asked for that the file has nothing for, while others of the file
        were never asked for; None otherwise: a part of a data set is no mistake.
        """
        without = self._without + sum(not known for known in self._videos.values())
        names = self.unmatched()
        if not (without and names):
            return None
        listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        pictures = "1 input" if without == 1 else f"{without} inputs"
        return (
            f"{self.path} has nothing for {pictures}, but regions for {len(names)} other "
            f"{'picture' if len(names) == 1 else 'pictures'} ({listed}): correct the names and "
            "folders there, or leave out the inputs without regions"
        )

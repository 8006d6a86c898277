"""What COCO's files have in common: lists of images, categories and annotations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atas_deploy.core.errors import AnnotationError
from atas_deploy.core.geometry import Size
from atas_deploy.media.annotations.coco_row import Row
from atas_deploy.media.annotations.entry import Entry, show
from atas_deploy.media.images import MAX_PIXELS

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoImage:
    """An image of a COCO file.

    Attributes:
        id: its number.
        file_name: its name or path.
        height: in pixels.
        width: in pixels.
    """

    id: int
    file_name: str
    height: int
    width: int

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.height, self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoCategory:
    """A category of a COCO file.

    Attributes:
        id: its number.
        name: its name.
        thing: whether it is of things, which can be counted; else of stuff.
    """

    id: int
    name: str
    thing: bool = True


class Lookup:
    """Images and categories by their numbers."""

    def __init__(
        self, path: Path, images: Sequence[CocoImage], categories: Sequence[CocoCategory]
    ) -> None:
        """Those of a file; raises AnnotationError if two have the same number."""
        self.path, self.images, self.categories = path, tuple(images), tuple(categories)
        self.image_index = _index(path, "image", [image.id for image in images])
        self.category_index = _index(path, "category", [category.id for category in categories])

    @classmethod
    def read(cls, path: Path, data: Any) -> "Lookup":
        """The lists of a COCO file.

        Raises:
            AnnotationError: they are missing, or an entry is not as it should be.
        """
        return cls(
            path,
            [_image(row, entry) for entry, row in rows_of(path, data, "images", "image")],
            [_category(row, entry) for entry, row in rows_of(path, data, "categories", "category")],
        )

    def image(self, row: Row | Table, entry: Entry) -> int:
        """Index of the image that a row names.

        Raises:
            AnnotationError: the file has no such image.
        """
        number = entry.whole(need(row, "image_id", entry), "image_id")
        if (index := self.image_index.get(number)) is None:
            raise entry.error(
                f'has the image_id {number}, which is not in "images"',
                "add the image or remove the entry",
            )
        return index

    def category(self, row: Row | Table, entry: Entry) -> int:
        """Index of the category that a row names.

        Raises:
            AnnotationError: the file has no such category.
        """
        number = entry.whole(need(row, "category_id", entry), "category_id")
        if (index := self.category_index.get(number)) is None:
            raise entry.error(
                f'has the category_id {number}, which is not in "categories"',
                "add the category or correct the entry",
            )
        return index


def rows_of(path: Path, data: Any, key: str, noun: str) -> Iterator[tuple[Entry, Any]]:
    """The entries of a list of a COCO file, each with its name for messages.

    Raises:
        AnnotationError: the list is missing, or an entry is no table.
    """
    rows = data.get(key) if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise AnnotationError(
            f'{path} has no list "{key}", expected images, categories and annotations as in '
            "COCO: name a COCO file"
        )
    yield from numbered(path, rows, noun)


def numbered(path: Path, rows: list[Any], noun: str) -> Iterator[tuple[Entry, Any]]:
    """The entries of a list, by their id or, without one, their place from 1 on.

    Raises:
        AnnotationError: one is no table.
    """
    for place, row in enumerate(rows, 1):
        if not isinstance(row, dict | Row):
            raise Entry(path, f"{noun} number {place}").error(
                f"is {show(row)}, expected a table as in COCO", "correct it"
            )
        yield name_entry(path, noun, row.get("id"), place), row


def name_entry(path: Path, noun: str, number: Any, place: int) -> Entry:
    """An entry with its number or, if it is none, its place."""
    known = type(number) is int
    return Entry(path, f"{noun} {number}" if known else f"{noun} number {place}")


def need(row: Row | Table, key: str, entry: Entry) -> Any:
    """A value of a row.

    Raises:
        AnnotationError: it is missing.
    """
    if (value := row.get(key)) is None:
        raise entry.error(f'has no "{key}"', "add it")
    return value


def _image(row: Table, entry: Entry) -> CocoImage:
    number = entry.whole(need(row, "id", entry), "id")
    name = _file_name(row, entry)
    size = {key: entry.whole(need(row, key, entry), key) for key in ("height", "width")}
    if min(size.values()) < 1 or size["height"] * size["width"] > MAX_PIXELS:
        raise entry.error(
            f"is {size['width']} x {size['height']} pixels, expected sizes above 0 and "
            f"{MAX_PIXELS:,} pixels at most",
            "correct it",
        )
    return CocoImage(id=number, file_name=name, **size)


def _file_name(row: Table, entry: Entry) -> str:
    """The name of an image; LVIS has only an address, which ends in the folder and the name."""
    if row.get("file_name") is None and isinstance(row.get("coco_url"), str):
        return "/".join(_name(row, "coco_url", entry).split("/")[-2:])
    return _name(row, "file_name", entry)


def _category(row: Table, entry: Entry) -> CocoCategory:
    return CocoCategory(
        id=entry.whole(need(row, "id", entry), "id"),
        name=_name(row, "name", entry),
        thing=bool(row.get("isthing", 1)),
    )


def _name(row: Table, key: str, entry: Entry) -> str:
    name = need(row, key, entry)
    if not isinstance(name, str) or not name.strip():
        raise entry.error(f"has the {key} {show(name)}, expected text", "correct it")
    return name


def _index(path: Path, noun: str, numbers: list[int]) -> dict[int, int]:
    index: dict[int, int] = {}
    for i, number in enumerate(numbers):
        if index.setdefault(number, i) != i:
            raise Entry(path, f"{noun} {number}").error("is listed twice", "remove or renumber one")
    return index

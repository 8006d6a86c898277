"""Tests that hold for every format of a whole run: flat memory, whole files or none."""

import resource
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.errors import InputError, OutputError
from atas_deploy.core.palette import class_palette
from atas_deploy.media.formats import (
    Labelled,
    write_coco_dataset,
    write_coco_results,
    write_cvat,
    write_label_studio,
    write_polygons,
)

NAMES, PALETTE = ["dog"], class_palette(1)
Write = Callable[[Path, Iterator[Labelled]], None]
WRITERS: dict[str, Write] = {
    "coco": lambda path, items: write_coco_dataset(path, items, NAMES),
    "coco results": write_coco_results,
    "polygons": write_polygons,
    "cvat": lambda path, items: write_cvat(path, items, NAMES, palette=PALETTE),
    "label studio": lambda path, items: write_label_studio(path, items, NAMES, palette=PALETTE),
}
every_format = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def noise(count: int, *, seen: list[weakref.ref] | None = None) -> Iterator[Labelled]:
    """Make images of noise; note each label map that is read."""

    def read(seed: int) -> np.ndarray:
        labels = np.random.default_rng(seed).integers(0, 2, (64, 64)).astype(np.uint8)
        if seen is not None:
            seen.append(weakref.ref(labels))
        return labels

    classes = [{"id": 1, "name": "dog", "score": 0.5, "area": 0.5}]
    for seed in range(count):
        yield Labelled(f"{seed}", f"{seed}.jpg", 64, 64, lambda seed=seed: read(seed), classes)


@every_format
def test_one_label_map_is_held_at_a_time(tmp_path: Path, write: Write) -> None:
    """Each label map is read once, in turn, and the ones before the last are gone by then."""
    seen: list[weakref.ref] = []
    alive = []

    def watched() -> Iterator[Labelled]:
        for number, item in enumerate(noise(5, seen=seen)):
            assert len(seen) == number
            alive.append(sum(reference() is not None for reference in seen))
            yield item

    write(tmp_path / "a", watched())
    assert len(seen) == 5
    assert max(alive) <= 1


@every_format
def test_a_bad_image_leaves_nothing(tmp_path: Path, write: Write) -> None:
    """If a label map cannot be read, the old file stays whole and no part of a new one."""
    (tmp_path / "a").write_text("before")

    def broken() -> Iterator[Labelled]:
        yield from noise(2)
        raise InputError("The label map is gone.")

    with pytest.raises(InputError, match="gone"):
        write(tmp_path / "a", broken())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


@every_format
def test_a_full_disk_leaves_nothing(tmp_path: Path, write: Write) -> None:
    """When no more can be written it is our error; here a limit on the size of files stops it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"Cannot write .*/a: "):
            write(tmp_path / "a", noise(40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@every_format
def test_a_folder_that_is_not_there(tmp_path: Path, write: Write) -> None:
    """A file that cannot be created is our error."""
    with pytest.raises(OutputError, match="folder does not exist"):
        write(tmp_path / "sub" / "a", noise(1))

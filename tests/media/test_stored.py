"""Pictures by name from folders and tar files."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.media.stored import open_stored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one of them in a sub-folder."""
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    for name, value in (("a.png", 10), ("sub/b.png", 200)):
        pixels = np.full((4, 6, 3), value, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def test_folder_and_tar_have_the_same_pictures(folder: Path) -> None:
    """By path and by last part."""
    packed = folder.parent / "pictures.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(folder, arcname=".")
    for path in (folder, packed):
        stored = open_stored(path)
        assert stored.names == {"a.png", "b.png", "sub/b.png"}
        assert stored.read("a.png").max() == 10
        assert stored.read("b.png").shape == stored.read("sub/b.png").shape == (4, 6, 3)


def test_what_is_no_picture_is_named(folder: Path) -> None:
    """In a folder and in a tar file."""
    (folder / "c.png").write_bytes(b"no picture")
    packed = folder.parent / "pictures.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(folder, arcname=".")
    for path in (folder, packed):
        with pytest.raises(InputError, match=r"c\.png"):
            open_stored(path).read("c.png")


def test_a_name_that_two_files_share_is_refused(folder: Path) -> None:
    """When it is asked for; by its path each of them can be read, and so can all others."""
    (folder / "other").mkdir()
    Image.new("RGB", (6, 4), "white").save(folder / "other" / "b.png")
    Image.new("RGB", (6, 4), "white").save(folder / "other" / "a.png")
    packed = folder.parent / "pictures.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(folder, arcname=".")
    for path in (folder, packed):
        stored = open_stored(path)
        for ask in (stored.read, lambda name, stored=stored: stored.check(["a.png", name])):
            with pytest.raises(InputError, match=r"2 files named b\.png \(.*other/b\.png"):
                ask("b.png")
        assert stored.read("sub/b.png").max() == 200
        assert stored.read("a.png").max() == 10  # the path of one of them
        stored.check(["a.png", "other/a.png", "other/b.png"])


def test_other_paths_are_refused(tmp_path: Path) -> None:
    """What is missing, and what is no tar file."""
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="neither a folder"):
        open_stored(tmp_path / "nowhere")
    with pytest.raises(InputError, match="uncompressed tar"):
        open_stored(tmp_path / "broken.tar")

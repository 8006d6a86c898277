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
        names, read = open_stored(path)
        assert names == {"a.png", "b.png", "sub/b.png"}
        assert read("a.png").max() == 10
        assert read("b.png").shape == read("sub/b.png").shape == (4, 6, 3)


def test_what_is_no_picture_is_named(folder: Path) -> None:
    """In a folder and in a tar file."""
    (folder / "c.png").write_bytes(b"no picture")
    packed = folder.parent / "pictures.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(folder, arcname=".")
    for path in (folder, packed):
        _, read = open_stored(path)
        with pytest.raises(InputError, match=r"c\.png"):
            read("c.png")


def test_other_paths_are_refused(tmp_path: Path) -> None:
    """What is missing, and what is no tar file."""
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="neither a folder"):
        open_stored(tmp_path / "nowhere")
    with pytest.raises(InputError, match="uncompressed tar"):
        open_stored(tmp_path / "broken.tar")

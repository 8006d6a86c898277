"""Pictures by name from folders and tar files."""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.media.stored import open_stored, tar_members


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


def test_pictures_in_tar_files_are_read_as_files_are(folder: Path) -> None:
    """Upright, over white where they are clear, and deep ones scaled."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[..., :3]).save(folder / "turned.png", exif=exif)
    Image.fromarray(pixels).save(folder / "clear.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    with tarfile.open(folder.parent / "pictures.tar", "w") as tar:
        tar.add(folder, arcname=".")
    files, packed = open_stored(folder), open_stored(folder.parent / "pictures.tar")
    for name in ("turned.png", "clear.png", "deep.png"):
        np.testing.assert_array_equal(packed.read(name), files.read(name))
    assert packed.read("turned.png").shape == (7, 5, 3)
    np.testing.assert_array_equal(packed.read("deep.png")[..., 1], pixels[..., 0])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_they_are_said_to_be(tmp_path: Path, form: int) -> None:
    """Files only, under names of any length that the format allows."""
    names = ["a.txt", f"{'folder' * 16}/{'b' * 60}.txt", "links/c.txt"]
    for name in names:
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text(f"content of {name}" * 40)
    (tmp_path / "x" / "links" / "d.txt").symlink_to("c.txt")
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as tar:
        tar.add(tmp_path / "x", arcname=".")
    content = (tmp_path / "x.tar").read_bytes()
    found = {
        member.name: content[member.start : member.start + member.size].decode()
        for member in tar_members(tmp_path / "x.tar")
    }
    assert found == {name: f"content of {name}" * 40 for name in names}


@pytest.mark.parametrize(
    ("compress", "kind"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")]
)
def test_compressed_tar_files_are_refused(
    folder: Path, compress: Callable[[bytes], bytes], kind: str
) -> None:
    """Their members cannot be read one by one."""
    with tarfile.open(folder.parent / "pictures.tar", "w") as tar:
        tar.add(folder, arcname=".")
    packed = folder.parent / "packed.tar"
    packed.write_bytes(compress((folder.parent / "pictures.tar").read_bytes()))
    with pytest.raises(InputError, match=rf"packed\.tar is compressed \({kind}\).*unpack it"):
        open_stored(packed)


def test_no_member_of_a_damaged_tar_file_is_lost_in_silence(tmp_path: Path) -> None:
    """A header in the middle that cannot be read is an error, and so is a missing end."""
    with tarfile.open(tmp_path / "whole.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("a", "b", "c"):
            (tmp_path / name).write_text(name * 700)
            tar.add(tmp_path / name, arcname=name)
    content = (tmp_path / "whole.tar").read_bytes()
    assert content[1536:1538] == b"b\0"
    damaged = content[:1536] + b"?" * 512 + content[2048:]
    for part, reason in ((damaged, "damaged header at byte 1536"), (content[:2500], "unexpected")):
        (tmp_path / "part.tar").write_bytes(part)
        with pytest.raises(InputError, match=rf"{reason}.*copy it again"):
            list(tar_members(tmp_path / "part.tar"))


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

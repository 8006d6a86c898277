"""Images from folders, globs, lists and tar shards."""

import gzip
import pickle
import re
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.training.images import ImageSource, open_images

ORIENTATION = 0x0112
Pixels = npt.NDArray[np.uint8]


def noise(height: int, width: int) -> Pixels:
    """Make a picture whose parts are all needed: (H, W, 3)."""
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(folder: Path, names: Iterable[str]) -> Path:
    """Write small pictures, the first of 4 x 9 pixels, the next of 5 x 9, and so on."""
    for height, name in enumerate(names, start=4):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(height, 9)).save(folder / name)
    return folder


def pack(path: Path, folder: Path, **options: object) -> Path:
    """Put all files of a folder into a tar file, sorted, under their paths in the folder."""
    with tarfile.open(path, "w", **options) as tar:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            tar.add(file, arcname=str(file.relative_to(folder)))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that tests can name files as a user does."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_searched_below(here: Path) -> None:
    """By suffix; what is hidden, no image, or the result of a run is left out."""
    write(here / "photos", ["b.png", "a.JPG", "sub/deep/c.webp", ".hidden.png", ".cache/d.png"])
    write(here / "photos", ["a.overlay.jpg", "b.labels.png"])
    (here / "photos" / "notes.md").write_text("no image")
    found = open_images(["photos"])
    assert found.names == ["photos/a.JPG", "photos/b.png", "photos/sub/deep/c.webp"]
    assert len(found) == 3


def test_the_current_folder_needs_no_prefix(here: Path) -> None:
    """Names are as short as what a user would write."""
    write(here, ["a.png", "sub/b.png"])
    assert open_images(["."]).names == ["a.png", "sub/b.png"]
    assert open_images(["*.png"]).names == ["a.png"]


def test_globs_match_images_and_shards(here: Path) -> None:
    """At any depth; other files are left out."""
    write(here / "photos", ["a.png", "sub/b.png", "sub/c.jpg"])
    pack(here / "photos" / "sub" / "s.tar", write(here / "more", ["d.png"]))
    assert open_images(["photos/**/*.png"]).names == ["photos/a.png", "photos/sub/b.png"]
    assert open_images(["photos/*/[cs].*"]).names == ["photos/sub/c.jpg", "photos/sub/s.tar:d.png"]


def test_a_list_names_files_relative_to_itself(here: Path) -> None:
    """In its order, with absolute paths and blank lines, whatever the suffixes."""
    write(here / "photos", ["a.png", "sub/b.png", "c.png"])
    (here / "photos" / "c.png").rename(here / "photos" / "c.picture")
    pack(here / "photos" / "s.tar", write(here / "more", ["d.png"]))
    lines = ["./sub/b.png", "", f"{here}/photos/a.png ", "c.picture", "s.tar"]
    (here / "photos" / "list.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    found = open_images(["photos/list.txt"])
    assert found.names == [
        "photos/sub/b.png",
        f"{here}/photos/a.png",
        "photos/c.picture",
        "photos/s.tar:d.png",
    ]
    assert [found.read(i).shape[0] for i in range(4)] == [5, 4, 6, 4]


def test_a_range_in_braces_names_shards(here: Path) -> None:
    """Each number of it, with the zeros of the first; members are named behind their shard."""
    for number in range(8, 12):
        folder = write(here / f"f{number}", [f"{number}.png", "sub/x.jpg", f"{number}.json.png"])
        (folder / f"{number}.txt").write_text("a caption")
        (folder / "sub" / "._8.png").write_text("what macOS leaves behind")
        write(folder, [".cache/9.png"])
        pack(here / f"shard-{number:04d}.tar", folder)
    found = open_images(["shard-{0008..0010}.tar"])
    assert [name for name in found.names if name.endswith("sub/x.jpg")] == [
        f"shard-{number:04d}.tar:sub/x.jpg" for number in (8, 9, 10)
    ]
    assert len(found) == 9
    assert open_images(["f{8..9}/*/x*", "f{10..11}/sub"]).names[-1] == "f11/sub/x.jpg"


def test_sources_come_in_the_order_given(here: Path) -> None:
    """Folders, single images and shards side by side."""
    write(here, ["z/a.png", "b.png"])
    pack(here / "c.tar", here / "z")
    assert open_images(["z", "c.tar", "b.png"]).names == ["z/a.png", "c.tar:a.png", "b.png"]


def test_opening_decodes_nothing(here: Path) -> None:
    """Damaged images are named like others; reading one says what is wrong, by its name."""
    (here / "photos").mkdir()
    (here / "photos" / "a.jpg").write_bytes(b"damaged")
    (here / "photos" / "b.jpg").touch()
    pack(here / "s.tar", here / "photos")
    found = open_images(["photos", "s.tar"])
    reasons = [r"photos/a\.jpg is not an image", r"photos/b\.jpg is empty"]
    reasons += [r"s\.tar:a\.jpg is not an image", r"s\.tar:b\.jpg is empty"]
    for index, reason in enumerate(reasons):
        with pytest.raises(InputError, match=f"^{reason}"):
            found.read(index)


def save_turned(path: Path) -> Pixels:
    """Noise that EXIF says must be turned clockwise."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(noise(20, 31)).save(path.with_suffix(".png"), exif=exif)
    return np.rot90(noise(20, 31), -1)


def save_grey(path: Path) -> Pixels:
    """One channel."""
    grey = noise(20, 31)[..., 0]
    Image.fromarray(grey).save(path.with_suffix(".png"))
    return np.stack([grey] * 3, axis=-1)


def save_cmyk(path: Path) -> Pixels:
    """Ink that makes red."""
    ink = np.full((16, 24, 4), (0, 255, 255, 0), np.uint8)
    Image.frombytes("CMYK", (24, 16), ink.tobytes()).save(path.with_suffix(".tif"))
    return np.full((16, 24, 3), (255, 0, 0), np.uint8)


def save_deep(path: Path) -> Pixels:
    """16 bits a channel."""
    cv2.imwrite(str(path.with_suffix(".png")), noise(20, 31)[..., ::-1].astype(np.uint16) * 257)
    return noise(20, 31)


def save_clear(path: Path) -> Pixels:
    """Transparent pixels over any colour: white is behind them."""
    rgba = np.dstack([noise(20, 31), np.zeros((20, 31), np.uint8)])
    rgba[:10, :, 3] = 255
    Image.fromarray(rgba).save(path.with_suffix(".png"))
    return np.concatenate([noise(20, 31)[:10], np.full((10, 31, 3), 255, np.uint8)])


@pytest.mark.parametrize("save", [save_turned, save_grey, save_cmyk, save_deep, save_clear])
def test_any_image_is_read_as_upright_rgb(here: Path, save: Callable[[Path], Pixels]) -> None:
    """From a file and from a tar file alike."""
    (here / "photos").mkdir()
    expected = save(here / "photos" / "a")
    pack(here / "photos.tar", here / "photos")
    found = open_images(["photos", "photos.tar"])
    for index in range(2):
        np.testing.assert_array_equal(found.read(index), expected)
        assert found.read(index).dtype == np.uint8


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_in_tar_files(here: Path, form: int) -> None:
    """Names that need headers of their own lead to the right content."""
    names = [f"{'long' * 30}/{'name' * 20}.png", "später/猫.png", "z.png"]
    pack(here / "s.tar", write(here / "photos", names), format=form)
    found = open_images(["s.tar"])
    assert sorted(found.names) == sorted(f"s.tar:{name}" for name in names)
    heights = {name.partition(":")[2]: found.read(i).shape[0] for i, name in enumerate(found.names)}
    assert heights == {name: height for height, name in enumerate(names, start=4)}


def test_names_that_are_no_text_are_kept(here: Path) -> None:
    """Bytes that are no UTF-8 lead back to the file."""
    write(here / "photos", [b"caf\xe9.png".decode("utf-8", "surrogateescape")])
    assert open_images(["photos"]).read(0).shape == (4, 9, 3)


def test_a_copy_reads_the_same(here: Path) -> None:
    """A pickled source is small and whole, also after its names were asked for."""
    write(here / "photos", [f"{number}.png" for number in range(5)])
    found = open_images(["photos", str(pack(here / "s.tar", here / "photos"))])
    before = len(pickle.dumps(found))
    names = found.names
    assert len(pickle.dumps(found)) == before
    copy: ImageSource = pickle.loads(pickle.dumps(found))
    assert copy.names == names
    for index in range(10):
        np.testing.assert_array_equal(copy.read(index), noise(4 + index % 5, 9))


def test_a_shard_that_is_gone_is_an_error_of_its_image(here: Path) -> None:
    """As with any other file."""
    found = open_images([str(pack(here / "s.tar", write(here / "photos", ["a.png"])))])
    (here / "s.tar").unlink()
    with pytest.raises(InputError, match=r"s\.tar cannot be read \(No such file"):
        found.read(0)


@pytest.mark.parametrize(
    ("sources", "twice"),
    [
        (["photos", "photos/*.png"], "photos/a.png is given twice"),
        (["photos", "./photos/sub"], "photos/sub/b.png is given twice"),
        (["photos", "link"], "photos/a.png is given twice, also as link/a.png"),
        (["photos/a.png", "list.txt"], "photos/a.png is given twice"),
        (["list.txt", "list.txt"], "photos/a.png is given twice"),
        (["s.tar", "link/../s.tar"], "s.tar:a.png is given twice, also as link/../s.tar:a.png"),
    ],
)
def test_an_image_given_twice_is_refused(here: Path, sources: list[str], twice: str) -> None:
    """By whatever names."""
    write(here / "photos", ["a.png", "sub/b.png"])
    pack(here / "s.tar", here / "photos")
    (here / "link").symlink_to("photos")
    (here / "list.txt").write_text("photos/a.png")
    with pytest.raises(InputError, match=f"^{re.escape(twice)}"):
        open_images(sources)


def test_files_of_one_name_in_two_folders_are_two_images(here: Path) -> None:
    """Nothing but the whole path counts."""
    write(here, ["one/a.png", "two/a.png"])
    pack(here / "s.tar", here / "one")
    pack(here / "t.tar", here / "one")
    assert len(set(open_images(["one", "two", "s.tar", "t.tar"]).names)) == 4


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "No images were given"),
        ([""], "empty"),
        (["nowhere"], "nowhere does not exist: name a folder"),
        (["nowhere/*.png"], r"The glob 'nowhere/\*\.png' matches no image .*\.jpg"),
        (["full/*.gif"], r"The glob 'full/\*\.gif' matches no image"),
        (["empty"], r"The folder empty holds no image \(files ending in \.avif .*empty/\*\.tar"),
        (["full", "empty"], "The folder empty"),
        (["notes.md"], "notes.md is no image"),
        (["shard-{0..2}.tar"], r"shard-0\.tar does not exist"),
        (["full/{3..1}.png"], "counts down"),
        (["absent.txt"], r"absent\.txt cannot be read"),
        (["blank.txt"], r"blank\.txt names no image"),
        (["wrong.txt"], r"wrong\.txt names full/b\.png \(and 1 more\), which does not exist"),
        (["binary.txt"], "UTF-8 list"),
        (["packed.tar"], r"packed\.tar is compressed \(gzip\).*unpack it"),
        (["packed.tar.gz"], r"packed\.tar\.gz is compressed \(gzip\).*unpack it"),
        (["captions.tar"], r"captions\.tar holds no image \(files ending in"),
        (["short.tar"], r"short\.tar cannot be read as an uncompressed tar file .*copy it again"),
        (["damaged.tar"], "damaged header at byte"),
        (["a\0b"], "cannot be a path"),
    ],
)
def test_what_gives_no_images_is_refused(here: Path, sources: list[str], message: str) -> None:
    """One sentence says what is wrong with it."""
    write(here, ["full/a.png"])
    write(here / "more", ["a.png", "b.png", "c.png"])
    (here / "empty").mkdir()
    (here / "captions").mkdir()
    (here / "captions" / "a.txt").write_text("a dog")
    pack(here / "captions.tar", here / "captions")
    for name, content in (("notes.md", "a"), ("blank.txt", "\n\n")):
        (here / name).write_text(content)
    (here / "wrong.txt").write_text("full/a.png\nfull/b.png\nelsewhere/c.png")
    (here / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    content = pack(here / "w.tar", here / "more", format=tarfile.GNU_FORMAT).read_bytes()
    for name in ("packed.tar", "packed.tar.gz"):
        (here / name).write_bytes(gzip.compress(content))
    (here / "short.tar").write_bytes(content[:1300])
    second = content.index(b"b.png")
    (here / "damaged.tar").write_bytes(content[:second] + b"?" * 512 + content[second + 512 :])
    with pytest.raises(InputError, match=message):
        open_images(sources)

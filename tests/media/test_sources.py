"""Tests of finding the files of a run."""

from pathlib import Path

import pytest
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.media.sources import Source, find_sources


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with media, other files and hidden ones, and go there."""
    for name in ["b.jpg", "a.PNG", "clip.mp4", "notes.txt", "sub/b.jpg", "sub/deep/c.webp"]:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    for name in [".hidden.jpg", ".cache/d.jpg"]:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def names(sources: list[Source]) -> list[str]:
    """Return the names of sources."""
    return [source.name for source in sources]


@pytest.mark.usefixtures("tree")
def test_folder_gives_its_media_in_order() -> None:
    """A folder is searched to the bottom, by suffix, without hidden files."""
    sources = find_sources(["in"])
    assert names(sources) == ["a", "b", "clip", "sub/b", "sub/deep/c"]
    assert [source.kind for source in sources] == ["image", "image", "video", "image", "image"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.jpg", ["b"]),
        ("in/**/*.jpg", ["b", "sub/b"]),
        ("*/sub/*", ["in/sub/b"]),
        ("in/?.*", ["a", "b"]),
    ],
)
def test_globs(pattern: str, expected: list[str]) -> None:
    """A glob gives the media it matches, named from its first wildcard on."""
    assert names(find_sources([pattern])) == expected


def test_absolute_glob(tree: Path) -> None:
    """A glob may be an absolute path."""
    assert names(find_sources([f"{tree}/sub/*/*"])) == ["deep/c"]


@pytest.mark.usefixtures("tree")
def test_a_file_counts_once() -> None:
    """Files named in several ways keep their first place."""
    sources = find_sources(["in/b.jpg", "in/*.jpg", "./in/../in/b.jpg", "in/clip.mp4", "in"])
    assert names(sources)[:2] == ["b", "clip"]
    assert len(sources) == 5


def test_equal_stems_keep_their_suffix(tmp_path: Path) -> None:
    """Files that differ in suffix or case alone get different names, those alone a plain one."""
    for name in ["p.jpg", "p.png", "Q.jpg", "q.png", "r.jpg"]:
        (tmp_path / name).touch()
    assert names(find_sources([str(tmp_path)])) == ["Q.jpg", "p.jpg", "p.png", "q.png", "r"]


def test_equal_names_are_numbered(tmp_path: Path) -> None:
    """Files of the same name from several folders are counted."""
    for folder in ["1", "2", "3"]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.jpg").touch()
    found = find_sources([str(tmp_path / folder / "p.jpg") for folder in "123"])
    assert names(found) == ["p.jpg", "p.jpg-2", "p.jpg-3"]


def test_unknown_suffixes_are_looked_into(tmp_path: Path) -> None:
    """A file named outright may have any suffix; its content decides."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.dat", format="PNG")
    (source,) = find_sources([str(tmp_path / "a.dat")])
    assert (source.kind, source.name) == ("image", "a")


def test_names_with_brackets_are_files_first(tmp_path: Path) -> None:
    """A file whose name looks like a glob is that file."""
    (tmp_path / "a[1].jpg").touch()
    assert names(find_sources([str(tmp_path / "a[1].jpg")])) == ["a[1]"]


@pytest.mark.usefixtures("tree")
def test_earlier_results_are_left_out(tree: Path) -> None:
    """A folder of results inside the input is not searched."""
    assert names(find_sources(["in"], exclude=tree / "sub")) == ["a", "b", "clip"]


def test_damaged_files_are_found(tmp_path: Path) -> None:
    """An empty file with a known suffix is listed: reading it later names the error."""
    (tmp_path / "a.jpg").touch()
    assert names(find_sources([str(tmp_path / "a.jpg")])) == ["a"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "no input was given: name"),
        (["in/missing.jpg"], "does not exist.*check the path"),
        (["in/*.bmp"], r"glob 'in/\*\.bmp' holds no image or video: check"),
        (["in/notes.txt"], "neither an image nor a video"),
    ],
)
def test_errors_name_the_cure(inputs: list[str], words: str) -> None:
    """What cannot be found is an error with what to do."""
    with pytest.raises(InputError, match=words):
        find_sources(inputs)


def test_empty_folder(tmp_path: Path) -> None:
    """A folder without media is an error."""
    with pytest.raises(InputError, match=r"the folder .* holds no image or video"):
        find_sources([str(tmp_path)])

"""Tests of finding the files of a run."""

import os
from pathlib import Path

import pytest
from PIL import Image

from atas_deploy.core.errors import InputError
from atas_deploy.media.sources import Found, Problem, find_sources


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


def names(found: Found) -> list[str]:
    """Return the names of the sources."""
    return [source.name for source in found.sources]


@pytest.mark.usefixtures("tree")
def test_folder_gives_its_media_in_order() -> None:
    """A folder is searched to the bottom, by suffix, without hidden files."""
    found = find_sources(["in"])
    assert names(found) == ["a", "b", "clip", "sub/b", "sub/deep/c"]
    assert [source.kind for source in found.sources] == [
        "image",
        "image",
        "video",
        "image",
        "image",
    ]


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
    found = find_sources(["in/b.jpg", "in/*.jpg", "./in/../in/b.jpg", "in/clip.mp4", "in"])
    assert names(found)[:2] == ["b", "clip"]
    assert len(found.sources) == 5


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
    (source,) = find_sources([str(tmp_path / "a.dat")]).sources
    assert (source.kind, source.name) == ("image", "a")


def test_names_with_brackets_are_files_first(tmp_path: Path) -> None:
    """A file whose name looks like a glob is that file."""
    (tmp_path / "a[1].jpg").touch()
    assert names(find_sources([str(tmp_path / "a[1].jpg")])) == ["a[1]"]


@pytest.mark.usefixtures("tree")
def test_earlier_results_are_left_out(tree: Path) -> None:
    """A folder of results inside the input is not searched."""
    assert names(find_sources(["in"], exclude=tree / "sub")) == ["a", "b", "clip"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("out", ["in", ".", "in/sub/.."])
def test_results_among_the_inputs_are_told_by_name(tree: Path, out: str) -> None:
    """Where results lie beside the inputs, only files named like results are left out."""
    for name in ["a.overlay.jpg", "a.labels.png", "clip.overlay.mp4", "sub/b.overlay.png"]:
        (tree / name).touch()
    found = find_sources(["in"], exclude=Path(out))
    assert names(found) == ["a", "b", "clip", "sub/b", "sub/deep/c"]


def test_nothing_but_results(tree: Path) -> None:
    """Where there are earlier results only, the message says so."""
    with pytest.raises(InputError, match="no image or video besides earlier results"):
        find_sources(["in/*/deep/*"], exclude=tree / "sub")


@pytest.mark.usefixtures("tree")
def test_bad_inputs_do_not_spoil_good_ones(tree: Path) -> None:
    """What cannot be used is told with what was asked, and the rest is found."""
    (tree / "empty").mkdir()
    found = find_sources(["in/gone.jpg", "in/b.jpg", "in/empty", "in/notes.txt"])
    assert names(found) == ["b"]
    assert [problem.asked for problem in found.problems] == [
        "in/gone.jpg",
        "in/empty",
        "in/notes.txt",
    ]
    assert found.problems[1] == Problem(
        "in/empty",
        "The folder in/empty holds no image or video: check the path and the file suffixes",
    )


def test_unreadable_folder_does_not_spoil_the_others(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that may not be listed is named, and the rest is found."""
    real = os.scandir

    def refuse(path: Path) -> object:
        if Path(path) == Path("in/sub"):
            raise PermissionError(13, "Permission denied", "in/sub")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_sources(["in"])
    assert names(found) == ["a", "b", "clip"]
    assert found.problems[0].message.startswith("folder in/sub cannot be read (Permission denied)")
    with pytest.raises(InputError, match="in/sub cannot be read"):
        find_sources(["in/sub"])


def test_circular_links(tmp_path: Path) -> None:
    """A link to itself is listed like any damaged file: reading it later names the error."""
    (tmp_path / "a.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert names(find_sources([str(tmp_path)])) == ["a", "loop"]
    with pytest.raises(InputError, match="symbolic links"):
        find_sources([str(tmp_path / "loop.jpg")])


@pytest.mark.parametrize("name", ["x" * 5_000, "x" * 5_000 + "*", "x" * 5_000 + ".jpg"])
def test_endless_names(name: str) -> None:
    """A name that is too long for the system is an input that cannot be found."""
    with pytest.raises(InputError, match=r"too long|holds no image"):
        find_sources([name])


def test_deleted_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the current folder is gone, a relative folder for results is one sentence."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "a.jpg").touch()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="the current folder is gone"):
        find_sources([str(tmp_path / "a.jpg")], exclude=Path("out"))


def test_pipes_are_refused(tmp_path: Path) -> None:
    """A pipe named outright is refused rather than waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe"):
        find_sources([str(tmp_path / "pipe")])


def test_damaged_files_are_found(tmp_path: Path) -> None:
    """An empty file with a known suffix is listed: reading it later names the error."""
    (tmp_path / "a.jpg").touch()
    assert names(find_sources([str(tmp_path / "a.jpg")])) == ["a"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "No input was given: name"),
        (["in/missing.jpg"], "does not exist.*check the path"),
        (["in/*.bmp"], r"glob 'in/\*\.bmp' holds no image or video: check"),
        (["in/notes.txt"], "neither an image nor a video"),
        (["gone.jpg", "gone.png", "gone"], r"gone\.jpg does not exist.* \(and 2 more\)$"),
    ],
)
def test_errors_name_the_cure(inputs: list[str], words: str) -> None:
    """What cannot be found is an error with what to do."""
    with pytest.raises(InputError, match=words):
        find_sources(inputs)


def test_empty_folder(tmp_path: Path) -> None:
    """A folder without media is an error."""
    with pytest.raises(InputError, match=r"The folder .* holds no image or video"):
        find_sources([str(tmp_path)])

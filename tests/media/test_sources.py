"""Tests of finding the files of a run."""

import gc
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atas_deploy.core.errors import ConfigError, InputError
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


def touch(folder: Path, *files: str) -> str:
    """Make a folder with empty files in it and below, and return its path."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return str(folder)


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
        ("in/**", ["a", "b", "clip", "sub/b", "sub/deep/c"]),
        ("in/**/**/c.*", ["sub/deep/c"]),
        ("**/deep/*", ["in/sub/deep/c"]),
        ("in/.*/*", [".cache/d"]),
        ("in/.hid*", [".hidden"]),
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
    assert names(found)[2:] == ["in-2/a", "in-2/sub/b", "in-2/sub/deep/c"]


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


def test_names_of_several_inputs_keep_apart(tmp_path: Path) -> None:
    """Where a folder is not alone, names below begin with its own, numbered if need be."""
    first = touch(tmp_path / "1/photos", "a.jpg", "sub/a.jpg")
    second = touch(tmp_path / "2/photos", "a.jpg")
    alone = touch(tmp_path / "3", "a.jpg")
    assert names(find_sources([first])) == ["a", "sub/a"]
    assert names(find_sources([first, second, f"{alone}/a.jpg"])) == [
        "a",
        "photos/a",
        "photos/sub/a",
        "photos-2/a",
    ]


def test_folders_that_differ_in_case_alone_keep_apart(tmp_path: Path) -> None:
    """Results lie in different folders also where case is ignored."""
    folder = touch(tmp_path, "Sub/a.jpg", "sub/a.jpg")
    assert names(find_sources([folder])) == ["Sub/a", "sub-2/a"]


def test_nested_folders_are_walked_once(tmp_path: Path) -> None:
    """A file belongs to the innermost of the folders named, in whichever order."""
    outer = touch(tmp_path / "out", "a.jpg", "in/b.jpg", "in/sub/c.jpg")
    for inputs in ([outer, f"{outer}/in"], [f"{outer}/in/.", outer, outer]):
        assert sorted(names(find_sources(inputs))) == ["in/b", "in/sub/c", "out/a"]
    found = find_sources([outer, f"{outer}/in/sub", f"{outer}/in", f"{outer}/a.jpg"])
    assert sorted(names(found)) == ["a", "in/b", "sub/c"]
    (tmp_path / "out/a.jpg").unlink()
    found = find_sources([outer, f"{outer}/in"])
    assert sorted(names(found)) == ["in/b", "in/sub/c"]
    assert found.problems == []


@settings(deadline=None, max_examples=100)
@given(
    files=st.lists(
        st.from_regex(r"([AaBb]/){0,2}[Aab](-2)?(\.png)?\.(jpg|JPG|png|mp4)", fullmatch=True),
        min_size=1,
        max_size=25,
        unique=True,
    )
)
def test_names_are_unique(tmp_path_factory: pytest.TempPathFactory, files: list[str]) -> None:
    """However files are called, no two results share a name, and each file is done once."""
    folder = tmp_path_factory.mktemp("names")
    touch(folder, *files)
    outright, rest = str(folder / files[0]), str(folder)
    for inputs in ([rest], [rest, outright], [rest, f"{rest}/**/*.png", f"{rest}/a"]):
        inputs = [text for text in inputs if os.path.exists(text) or "*" in text]  # noqa: PTH110
        sources = list(find_sources(inputs).sources)
        assert len({source.name.casefold() for source in sources}) == len(files)
        assert len({source.location for source in sources}) == len(files)


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
    results = ["a.overlay.jpg", "a.labels.png", "clip.overlay.mp4", "sub/b.overlay.png"]
    results += ["clip.masks/000001.png"]
    touch(tree, *results, "clip.masks.0a1b.part/000001.png")
    found = find_sources(["in"], exclude=Path(out))
    assert names(found) == ["a", "b", "clip", "sub/b", "sub/deep/c"]


@pytest.mark.usefixtures("tree")
def test_results_of_other_runs_are_no_inputs(tree: Path) -> None:
    """Also where this run writes elsewhere; a glob may still name them."""
    touch(tree, "sub/b.labels.png", "sub/b.overlay.jpg", "clip.masks/000001.png")
    assert names(find_sources(["in"], exclude=Path("out"))) == [
        "a",
        "b",
        "clip",
        "sub/b",
        "sub/deep/c",
    ]
    assert names(find_sources(["in/sub/*.labels.png"], exclude=Path("out"))) == ["b.labels"]


def test_nothing_but_results(tree: Path) -> None:
    """Where there are earlier results only, the message says so."""
    with pytest.raises(
        InputError, match=r"no image or video \(results of earlier runs are left out\)"
    ):
        find_sources(["in/*/deep/*"], exclude=tree / "sub")


@pytest.mark.usefixtures("tree")
def test_bad_inputs_do_not_spoil_good_ones(tree: Path) -> None:
    """What cannot be used is told with what was asked, and the rest is found."""
    (tree / "empty").mkdir()
    found = find_sources(["in/gone.jpg", "in/b.jpg", "in/empty", "in/notes.txt"])
    assert names(found) == ["b"]
    assert [problem.asked for problem in found.problems] == [
        "in/gone.jpg",
        "in/notes.txt",
        "in/empty",
    ]
    assert found.problems[2] == Problem(
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
    assert found.problems[0].message.startswith(
        "The folder in/sub cannot be read (Permission denied)"
    )
    with pytest.raises(InputError, match="in/sub cannot be read"):
        find_sources(["in/sub"])


def test_folders_are_walked_late(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is listed when its turn comes; files named outright wait for none."""
    listed = []
    real = os.scandir

    def note(path: str) -> object:
        listed.append(os.path.relpath(path, tree))
        return real(path)

    monkeypatch.setattr(os, "scandir", note)
    found = find_sources([str(tree), str(tree / "clip.mp4")])
    assert next(iter(found.sources)).name == "clip"
    assert listed == []
    sources = iter(found.sources)
    assert [next(sources).name for _ in range(3)] == ["clip", "in/a", "in/b"]
    assert listed == ["."]
    assert next(sources).name == "in/sub/b"
    assert listed == [".", "sub"]


def test_memory_does_not_grow_with_folders(tmp_path: Path) -> None:
    """Ten times the files in ten times the folders take no more memory."""
    peaks = []
    for folders in (5, 50):
        for number in range(folders):
            touch(tmp_path / f"{folders}/{number}", *(f"picture{i:03}.jpg" for i in range(40)))
        peaks.append(min(listing_peak(tmp_path / str(folders), 40 * folders) for _ in range(3)))
    assert peaks[1] < peaks[0] + 20_000


def listing_peak(folder: Path, files: int) -> int:
    """Peak memory of a listing, in bytes; other threads of the test run may add to one."""
    gc.collect()
    tracemalloc.start()
    assert sum(1 for _ in find_sources([str(folder)]).sources) == files
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.usefixtures("tree")
def test_sources_can_be_walked_again(tree: Path) -> None:
    """Every iteration finds the same, and tells each problem once."""
    (tree / "empty").mkdir()
    found = find_sources(["in", "in/empty", "gone.jpg"])
    assert [problem.asked for problem in found.problems] == ["gone.jpg"]
    assert names(found) == names(found)
    assert [problem.asked for problem in found.problems] == ["gone.jpg", "in/empty"]


@pytest.mark.usefixtures("tree")
def test_count() -> None:
    """Sources are counted by their names; streams alone have no end to count to."""
    assert find_sources(["in", "in/b.jpg", "camera:0"]).count() == 6
    assert find_sources(["camera:0", "rtsp://host/live"]).count() is None


def test_shards_split_a_run(tmp_path: Path) -> None:
    """Shards are disjoint and cover everything; an empty one is no error."""
    folder = touch(tmp_path, *(f"{i % 3}/{i}.jpg" for i in range(60)))
    parts = [find_sources([folder], shard=(i, 4)) for i in range(1, 5)]
    assert sorted(name for part in parts for name in names(part)) == sorted(
        names(find_sources([folder]))
    )
    assert [part.count() for part in parts] == [len(names(part)) for part in parts]
    assert all(part.count() for part in parts)
    one = [find_sources([f"{folder}/0/0.jpg"], shard=(i, 4)) for i in range(1, 5)]
    assert sorted(len(names(part)) for part in one) == [0, 0, 0, 1]


def test_every_shard_tells_every_problem(tmp_path: Path) -> None:
    """What is missing here may be there on another machine."""
    file = f"{touch(tmp_path, 'a.jpg')}/a.jpg"
    for shard in ((1, 2), (2, 2)):
        (problem,) = find_sources([file, "gone.jpg"], shard=shard).problems
        assert problem.asked == "gone.jpg"


def test_impossible_shards(tmp_path: Path) -> None:
    """A shard that is none of the parts is refused."""
    with pytest.raises(ConfigError, match="expected i/n"):
        find_sources([touch(tmp_path, "a.jpg")], shard=(3, 2))


def test_live_inputs() -> None:
    """Streams and cameras are videos, named by their addresses."""
    inputs = ["camera:0", "/dev/video1", "rtsp://me:word@cam/live?id=1", "rtsp://cam/live?id=2"]
    sources = list(find_sources(inputs).sources)
    assert [source.location for source in sources] == inputs
    assert {source.kind for source in sources} == {"video"}
    assert [source.name for source in sources] == ["camera-0", "video1", "cam-live", "cam-live-2"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://me:word@host/a.JPG?size=2", "address of an image.*download it first"),
        ("rtsp://me:word@host/a\0b", r"'rtsp://\*\*\*@host/a\\x00b' cannot be an address"),
        ("s3://bucket/*.jpg", "an address that is not read here, expected rtsp"),
    ],
)
def test_addresses_that_are_not_read(address: str, words: str) -> None:
    """Images of the web and other addresses are refused with what to do, without the password."""
    found = find_sources([address, "camera:0"])
    (problem,) = found.problems
    assert "word" not in problem.message + problem.asked
    with pytest.raises(InputError, match=words):
        find_sources([address])


def test_links_to_folders_in_circles(tmp_path: Path) -> None:
    """Links to folders are followed only where a pattern names them, so the walk ends."""
    folder = touch(tmp_path, "a.jpg", "sub/b.jpg")
    (tmp_path / "sub/one").symlink_to(tmp_path)
    assert names(find_sources([folder])) == ["a", "sub/b"]
    assert names(find_sources([f"{folder}/**/b.*"])) == ["sub/b"]
    assert names(find_sources([f"{folder}/sub/o*/a.*"])) == ["one/a"]


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
        ([""], "An input is empty: name"),
        (["a\0.jpg"], r"'a\\x00.jpg' cannot be a path \(embedded null byte\): check"),
        (["in/b.jpg/*"], "holds no image"),
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

"""Tests of files that appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from atas_deploy.core.errors import OutputError
from atas_deploy.core.files import atomic_path, check_writable, output_error, part_path


def test_target_appears_only_at_the_end(tmp_path: Path) -> None:
    """Until the block ends, readers see the old content."""
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    """After an exception there is no temporary file and no target."""

    def fail() -> None:
        with atomic_path(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """Writing into a missing folder says so and how to go on."""
    with (
        pytest.raises(OutputError, match="folder does not exist: create it"),
        atomic_path(tmp_path / "no" / "a.txt") as part,
    ):
        part.write_text("")


def test_folder_in_the_way_is_named(tmp_path: Path) -> None:
    """A folder with the target's name is an error and stays."""
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(OutputError, match="a folder has this name"),
        atomic_path(tmp_path / "a") as p,
    ):
        p.write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full: free"),
        (errno.EFBIG, "not be as large here: raise"),
        (errno.EACCES, "permission was denied: choose"),
        (errno.EROFS, "read-only: choose"),
        (errno.EEXIST, "name is in the way: choose"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_causes_come_with_a_cure(number: int, words: str) -> None:
    """What the system reports becomes one sentence that names the file."""
    message = str(output_error(Path("x.png"), OSError(number, "Input/output error")))
    assert message.startswith("Cannot write x.png: ")
    assert words in message


def test_long_names_fit(tmp_path: Path) -> None:
    """A target whose name has the longest allowed length can be written."""
    target = tmp_path / ("ä" * 126 + ".x")
    with atomic_path(target) as part:
        part.write_text("")
    assert target.exists()


def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    """A file named by bytes that are no text can be written."""
    target = tmp_path / os.fsdecode(b"bad\xff.txt")
    with atomic_path(target) as part:
        part.write_text("")
    assert target.exists()


def test_two_writers_do_not_share_a_part() -> None:
    """Every temporary name is a new one."""
    assert part_path(Path("a")) != part_path(Path("a"))


@pytest.mark.parametrize("name", ["here", "not/yet/there"])
def test_a_folder_that_can_be_written(tmp_path: Path, name: str) -> None:
    """Whether it exists or not, nothing changes."""
    (tmp_path / "here").mkdir()
    check_writable(tmp_path / name)
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_a_folder_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    """The message names what was asked for."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"Cannot write {tmp_path / name}: "):
        check_writable(tmp_path / name)

"""The journal: whole lines or none, whatever happens."""

from pathlib import Path

import pytest

from atas_deploy.core.errors import OutputError
from atas_deploy.runtime.journal import Journal, encode, read_rows
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.tally import Tally


def image_row(name: str) -> dict[str, object]:
    """The line of an image."""
    classes = [{"id": 2, "name": "tree", "score": 0.5, "area": 0.25}]
    return {"source": name, "kind": "image", "labels": f"{name}.labels.png", "classes": classes}


def test_takes_its_name_when_closed(tmp_path: Path) -> None:
    """Lines are on disk as soon as they are written, under their name after the end."""
    files, rows = RunFiles(tmp_path), [image_row("a"), {"source": "b\udcff", "error": "no"}]
    journal = Journal(files, Tally())
    for row in rows:
        journal.write(row)
    assert list(read_rows(files.journal)) == rows
    journal.close()
    journal.close()
    assert list(read_rows(files.results)) == rows
    assert not files.journal.exists()
    assert (journal.tally.images, journal.tally.failed) == (1, 1)


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    """A journal that exists is appended to."""
    files = RunFiles(tmp_path)
    files.journal.write_bytes(encode(image_row("a")))
    journal = Journal(files, Tally())
    journal.write(image_row("b"))
    journal.close()
    assert [row["source"] for row in read_rows(files.results)] == ["a", "b"]


@pytest.mark.parametrize("torn", [b'{"source": "b"', b"\0\0\0", b'{"source": "\xff"}', b"7\n"])
def test_torn_lines_are_passed_over(tmp_path: Path, torn: bytes) -> None:
    """What a kill or a crash of the machine leaves is no line."""
    path = tmp_path / "results.jsonl"
    path.write_bytes(encode(image_row("a")) + torn)
    assert [row["source"] for row in read_rows(path)] == ["a"]


def test_full_disk(tmp_path: Path) -> None:
    """A line that does not fit is an error in one sentence and is not counted."""
    files = RunFiles(tmp_path)
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    files.journal.symlink_to("/dev/full")
    journal = Journal(files, Tally())
    with pytest.raises(OutputError, match="the disk is full"):
        journal.write(image_row("a"))
    assert journal.tally.images == 0
    journal.close()


def test_a_line_that_fits_in_part_is_taken_back(tmp_path: Path) -> None:
    """A disk that fills up takes some bytes of a line; the journal ends with a whole one."""
    resource = pytest.importorskip("resource")
    files = RunFiles(tmp_path)
    journal = Journal(files, Tally())
    journal.write(image_row("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (files.journal.stat().st_size + 20, hard))
    try:
        with pytest.raises(OutputError):
            journal.write(image_row("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files.journal.read_bytes() == encode(image_row("a"))
    journal.write(image_row("c"))
    journal.close()
    assert [row["source"] for row in read_rows(files.results)] == ["a", "c"]


def test_unfinished_files_are_removed(tmp_path: Path) -> None:
    """While files are written a note names them; if that fails they go."""
    files = RunFiles(tmp_path)
    journal = Journal(files, Tally())
    target = tmp_path / "a.labels.png"

    def stopped() -> None:
        with journal.writing("a", {"labels": target}):
            target.touch()
            assert list(read_rows(files.writing)) == [{"source": "a", "labels": "a.labels.png"}]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not target.exists()
    journal.close()
    assert not files.writing.exists()


def test_names_of_shards(tmp_path: Path) -> None:
    """Each shard has files of its own, found again by their names."""
    for shard in [(2, 10), (10, 10)]:
        RunFiles(tmp_path, shard).results.touch()
    RunFiles(tmp_path, (1, 10)).run.touch()
    (tmp_path / "results.old-of-new.jsonl").touch()
    RunFiles(tmp_path).results.touch()
    found = RunFiles(tmp_path).shards()
    assert [run.shard for run in found] == [(1, 10), (2, 10), (10, 10)]
    assert found[0].results.name == "results.1-of-10.jsonl"

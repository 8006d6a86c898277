"""Taking over the journal of a run that was stopped at any byte."""

import random
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from atas_deploy.core.files import part_path
from atas_deploy.runtime.journal import encode, read_rows
from atas_deploy.runtime.resume import DoneSources, take_over
from atas_deploy.runtime.run_files import RunFiles

Row = dict[str, Any]


def image(name: str) -> Row:
    """The line of an image."""
    return {"source": name, "kind": "image", "labels": f"{name}.png", "classes": []}


def video(name: str, *, complete: bool = True) -> list[Row]:
    """The lines of a video of two frames."""
    frames = [{"source": name, "kind": "frame", "frame": i, "classes": []} for i in range(2)]
    closing = {"source": name, "kind": "video", "complete": complete, "overlay": f"{name}.mp4"}
    return [*frames, closing if complete else {**closing, "error": "cut off"}]


def write(files: RunFiles, rows: list[Row], *, killed: bool = True) -> None:
    """Write a journal and the files that it names."""
    data = b"".join(map(encode, rows))
    (files.journal if killed else files.results).write_bytes(data)
    for row in rows:
        for key in ("labels", "overlay"):
            if key in row:
                (files.folder / row[key]).touch()


def test_keeps_what_is_finished(tmp_path: Path) -> None:
    """Images with their files and whole videos stay; all else goes, with its files."""
    files = RunFiles(tmp_path)
    failed = {"source": "f", "error": "unreadable"}
    rows = [image("a"), image("b"), *video("c"), *video("d", complete=False), failed]
    write(files, [*rows, *video("e")[:2]])
    (tmp_path / "b.png").unlink()
    done, tally = take_over(files)
    assert [name in done for name in "abcdef"] == [True, False, True, False, False, False]
    assert list(read_rows(files.journal)) == [rows[0], *video("c")]
    assert (tally.images, tally.videos, tally.frames, tally.failed) == (1, 1, 2, 0)
    assert tally.resumed == len(done) == 2
    assert not (tmp_path / "d.mp4").exists()


def test_what_was_being_written_goes(tmp_path: Path) -> None:
    """Files that a killed run noted are its own; those of a source that has its line stay."""
    files = RunFiles(tmp_path)
    write(files, [image("a")])
    for source in ("a", "b"):
        files.writing.write_bytes(encode({"source": source, "labels": f"{source}.png"}))
        leftover = part_path(tmp_path / f"{source}.png")
        masks = part_path(tmp_path / f"{source}.masks")
        masks.mkdir()
        for path in (tmp_path / f"{source}.png", leftover, masks / "000000.png"):
            path.touch()
        files.writing.write_bytes(
            encode({"source": source, "labels": f"{source}.png", "masks": f"{source}.masks"})
        )
        take_over(files)
    assert sorted(path.name for path in tmp_path.iterdir() if path != files.writing) == [
        "a.png",
        "results.jsonl.part",
    ]


def test_files_elsewhere_are_left_alone(tmp_path: Path) -> None:
    """A line cannot name a file outside the folder, whoever wrote it."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("../mine.png", str(tmp_path / "mine.png")):
        (tmp_path / "mine.png").touch()
        row = {"source": "a", "kind": "video", "complete": False, "labels": name, "error": "x"}
        RunFiles(folder).journal.write_bytes(encode(row))
        take_over(RunFiles(folder))
        assert (tmp_path / "mine.png").exists()


def test_shards_become_one(tmp_path: Path) -> None:
    """Lines of shards are joined; a kill in the middle of that leaves none twice."""
    whole, shards = RunFiles(tmp_path), [RunFiles(tmp_path, (i, 2)) for i in (1, 2)]
    write(shards[0], [image("a"), *video("b")], killed=False)
    write(shards[1], [image("c")])
    write(whole, [image("a"), *video("b")])  # as a kill leaves it
    _, tally = take_over(whole, parts=shards)
    assert list(read_rows(whole.journal)) == [image("a"), *video("b"), image("c")]
    assert (tally.images, tally.videos, tally.resumed) == (2, 1, 3)
    assert RunFiles(tmp_path).shards() == []


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 2**31))
def test_any_cut(tmp_path_factory: Any, cut: int, seed: int) -> None:
    """Cut anywhere, the lines kept are those of finished sources before the cut, in order."""
    folder: Path = tmp_path_factory.mktemp("cut")
    chance = random.Random(seed)
    rows = [row for i in range(6) for row in chance.choice([video(f"v{i}"), [image(f"i{i}")]])]
    files = RunFiles(folder)
    write(files, rows)
    data = files.journal.read_bytes()
    cut %= len(data) + 1
    files.journal.write_bytes(data[:cut])
    whole = [row for row in read_rows(files.journal)]
    ended = {row["source"] for row in whole if row["kind"] != "frame"}
    take_over(files)
    assert list(read_rows(files.journal)) == [row for row in whole if row["source"] in ended]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.text(max_size=8)), st.sets(st.text(max_size=8)))
def test_done_sources(known: set[str], more: set[str]) -> None:
    """Exactly what was added is in it."""
    done = DoneSources.named(iter(known)) | DoneSources.named(iter(more))
    assert len(done) == len(known | more)
    assert all(name in done for name in known | more)
    assert not any(f"{name}/other" in done for name in known)

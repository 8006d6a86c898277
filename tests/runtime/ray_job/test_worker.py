"""`Worker`, called as Ray calls it but without Ray: what it leaves, and how it goes on."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.core.errors import AtasError, BackendError, InputError, OutputError
from atas_deploy.media.sources import Source
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.ray_job.items import Item
from atas_deploy.runtime.ray_job.worker import Report, Task, Worker
from atas_deploy.runtime.record import RunRecord, settings_of
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.tally import Tally

MODEL = {"classes": "sky,tree", "background": "road,wall", "short_side": 64, "cache": False}


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """The model of the run."""
    return Segmenter(**MODEL)


@pytest.fixture
def task(tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A run that has begun; the worker's changes to the process are undone."""
    monkeypatch.setenv("ATAS_DEPLOY_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    options = JobOptions()
    out = tmp_path / "out"
    out.mkdir()
    settings = settings_of(segmenter, options)
    RunRecord(RunFiles(out), settings=settings, engine={}).write(Tally())
    return Task(
        model=MODEL,
        settings=settings,
        options=options,
        out=Path("out"),
        inputs=(),
        force=False,
        folder=tmp_path,
        per_machine=1,
    )


@pytest.fixture
def item(tmp_path: Path) -> Item:
    """Three pictures."""
    for i in range(3):
        image = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    sources = (Source(location=Path(f"{i}.png"), kind="image", name=str(i)) for i in range(3))
    return Item("3f9a-7", tuple(sources))


def call(worker: Worker, item: Item) -> Report:
    """Call a worker as Ray does."""
    report: Report = pickle.loads(worker({"item": pickle.dumps(item)})["report"])
    assert report.item == item.name
    return report


def test_an_item(task: Task, item: Item) -> None:
    """Its files lie in the folder, its lines in a journal of its own; paths go from the start."""
    os.chdir("/")
    report = call(Worker(task), item)
    files = RunFiles(task.folder / "out", item=item.name)
    assert (report.error, report.notes) == (None, ())
    rows = [json.loads(line) for line in files.results.read_text().splitlines()]
    assert [row["source"] for row in rows] == ["0.png", "1.png", "2.png"]
    assert all((task.folder / "out" / row["overlay"]).exists() for row in rows)


def test_goes_on_after_a_kill(task: Task, item: Item) -> None:
    """Whole lines are kept, half files removed and made anew, although none may be replaced."""
    worker = Worker(task)
    call(worker, item)
    files = RunFiles(Path("out"), item=item.name)
    whole = files.results.read_bytes().splitlines(keepends=True)
    before = Path("out/0.labels.png").stat().st_mtime_ns
    files.journal.write_bytes(b"".join(whole[:1]) + whole[1][:40])
    files.results.unlink()
    files.writing.write_text(json.dumps({"source": "1.png", "labels": "1.labels.png"}) + "\n")
    for path in ("out/1.overlay.jpg", "out/2.overlay.jpg", "out/2.labels.png"):
        Path(path).unlink()
    Path("out/1.labels.png").write_bytes(b"half")
    report = call(worker, item)
    assert report.error is None
    assert report.notes == ("A worker died; its inputs are done again.",)
    assert files.results.read_bytes().splitlines(keepends=True) == whole
    assert Path("out/0.labels.png").stat().st_mtime_ns == before
    with Image.open("out/1.labels.png") as labels:
        assert labels.size == (64, 48)


def test_gives_up(task: Task, item: Item) -> None:
    """An item that has killed five workers ends the run; the message names its first input."""
    RunFiles(Path("out"), item=item.name).tries.write_bytes(b"+++++")
    error = call(Worker(task), item).error
    assert isinstance(error, BackendError)
    assert "5 workers died with 0.png or one of the 2 inputs after it" in str(error)


def test_a_foreign_file_is_kept(task: Task, item: Item) -> None:
    """A file that no worker has written fails its source only."""
    Path("out/1.labels.png").write_text("mine")
    assert call(Worker(task), item).error is None
    rows = RunFiles(Path("out"), item=item.name).results.read_text().splitlines()
    assert ["error" in json.loads(row) for row in rows].count(True) == 1
    assert Path("out/1.labels.png").read_text() == "mine"


def test_another_folder(task: Task, item: Item, tmp_path: Path) -> None:
    """A machine that does not see the run's folder must not write into one of its own."""
    Path("out/run.json").unlink()
    assert "let all machines see" in str(call(Worker(task), item).error)
    gone = replace(task, folder=tmp_path / "gone")
    assert "gone on " in str(call(Worker(gone), item).error)
    assert not list(Path("out").iterdir())


def test_another_model(task: Task, item: Item) -> None:
    """A machine where the settings come out otherwise would mix results."""
    other = replace(task, model={**MODEL, "classes": "sky,lake"})
    assert "come out otherwise on" in str(call(Worker(other), item).error)


@pytest.mark.parametrize("error", [BackendError("a b"), OutputError("a b"), InputError("a b")])
def test_errors_travel(error: AtasError) -> None:
    """A report keeps the kind and the sentence of an error."""
    report = Report(item="1-0", notes=(), error=error)
    back = pickle.loads(pickle.dumps(report))
    assert (type(back.error), str(back.error)) == (type(error), "a b")

"""`RayJob` with workers in this process: what it does when one of them or the run is stopped."""

import json
import pickle
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.cli.progress import Silent
from atas_deploy.core.errors import BackendError
from atas_deploy.media.sources import find_sources
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.ray_job import RayJob, job
from atas_deploy.runtime.ray_job.cluster import Pool
from atas_deploy.runtime.ray_job.items import Item
from atas_deploy.runtime.ray_job.worker import Report, Task, Worker
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.segment import Segmenter

MODEL = {"classes": "sky,tree", "background": "road,wall", "short_side": 64, "cache": False}
POOL = Pool(workers=1, cpus=1, gpus=0, per_machine=1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RayJob:
    """A job of three pictures, one in an item."""
    monkeypatch.setenv("ATAS_DEPLOY_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for i in range(3):
        image = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(image).save(f"in/{i}.png")
    monkeypatch.setattr(job, "cluster", lambda workers, *, gpu: nullcontext(POOL))
    return RayJob(
        Segmenter(**MODEL), Path("out"), progress=Silent(), options=JobOptions(), model=MODEL
    )


def work_on(items: Sequence[Item], task: Task) -> list[Report]:
    """Do items as a worker does."""
    worker = Worker(task)
    return [pickle.loads(worker({"item": pickle.dumps(item)})["report"]) for item in items]


def sources() -> list[str]:
    """The inputs that have a line in results.jsonl."""
    lines = Path("out/results.jsonl").read_text().splitlines()
    return [json.loads(line)["source"] for line in lines]


def test_an_error_of_a_worker(run: RayJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the run as it is, here before the worker had a journal; what was done is kept."""

    def pipeline(items: Sequence[Item], task: Task, pool: Pool) -> Iterator[Report]:
        RunFiles(task.out, item=items[1].name).tries.write_bytes(b"+++++")
        yield from work_on(items, task)

    monkeypatch.setattr(job, "run_pipeline", pipeline)
    with pytest.raises(BackendError, match=r"5 workers died with in/1\.png;"):
        run.run(find_sources(["in"]), inputs=["in"])
    assert sources() == ["in/0.png", "in/2.png"]
    assert not list(Path("out").glob("*item*"))
    assert json.loads(Path("out/run.json").read_text())["complete"] is False


def test_an_interruption(run: RayJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that workers have written and the run has not taken over yet are kept."""

    def pipeline(items: Sequence[Item], task: Task, pool: Pool) -> Iterator[Report]:
        yield work_on(items, task)[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "run_pipeline", pipeline)
    with pytest.raises(KeyboardInterrupt):
        run.run(find_sources(["in"]), inputs=["in"])
    assert sources() == ["in/0.png", "in/1.png", "in/2.png"]
    assert not list(Path("out").glob("*item*"))

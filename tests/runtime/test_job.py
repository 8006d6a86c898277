"""`SegmentJob` as a library: what it returns, and stops at awkward moments."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atas_deploy.cli.progress import Silent
from atas_deploy.core.errors import ConfigError
from atas_deploy.media.sources import find_sources
from atas_deploy.runtime import job as job_module
from atas_deploy.runtime.job import SegmentJob
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.resume import DoneSources
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.start import Start, begin
from atas_deploy.runtime.tally import Tally


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """A segmenter with a small encoder input."""
    return Segmenter(classes="sky,tree", background="road", short_side=32, cache=False)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """A grey picture."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(path)
    return str(path)


class Interrupting(Silent):
    """Presses Ctrl-C when the first picture is done."""

    def advance(self, count: int = 1) -> None:
        """Interrupt."""
        os.kill(os.getpid(), signal.SIGINT)


def test_returns_its_counts(tmp_path: Path, segmenter: Segmenter, photo: str) -> None:
    """The tally is that of the lines; an input that is missing is a failure, not an end."""
    job = SegmentJob(segmenter, tmp_path / "out", progress=Silent(), options=JobOptions())
    tally = job.run(find_sources([photo, str(tmp_path / "none.png")]))
    assert (tally.images, tally.failed) == (1, 1)
    assert "none.png" in tally.failures[0]["error"]


def test_a_stop_between_pictures(tmp_path: Path, segmenter: Segmenter, photo: str) -> None:
    """What is done has its line, the journal its name, and run.json is not complete."""
    out = tmp_path / "out"
    job = SegmentJob(segmenter, out, progress=Interrupting(), options=JobOptions())
    with pytest.raises(KeyboardInterrupt):
        job.run(find_sources([photo]))
    assert len((out / "results.jsonl").read_text().splitlines()) == 1
    assert json.loads((out / "run.json").read_text())["complete"] is False


def test_a_stop_at_the_start(
    tmp_path: Path, segmenter: Segmenter, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the folder is taken: the journal is closed, nothing half is left."""

    def interrupted(*args: object) -> Start:
        os.kill(os.getpid(), signal.SIGINT)
        begin(*args)  # type: ignore[arg-type]
        return Start(DoneSources.named(iter(())), Tally())

    monkeypatch.setattr(job_module, "begin", interrupted)
    out = tmp_path / "out"
    job = SegmentJob(segmenter, out, progress=Silent(), options=JobOptions())
    with pytest.raises(KeyboardInterrupt):
        job.run(find_sources([photo]))
    assert {path.name for path in out.glob("[!.]*")} == {"results.jsonl", "run.json"}


def test_an_unknown_encoder_is_refused_at_once(tmp_path: Path, segmenter: Segmenter) -> None:
    """Not only at the first video."""
    with pytest.raises(ConfigError, match="nope"):
        SegmentJob(segmenter, tmp_path, progress=Silent(), options=JobOptions(encoder="nope"))

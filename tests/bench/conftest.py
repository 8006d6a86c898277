"""A small clip, and who measures on it."""

from pathlib import Path

import pytest

from atas_deploy.bench.clip import make_clip
from atas_deploy.bench.plan import OURS, Contender
from atas_deploy.models import open_model

SIZE = (80, 112)
FRAMES = 7


@pytest.fixture(scope="session")
def pan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven frames of 80 x 112."""
    path = tmp_path_factory.mktemp("pan") / "pan.mp4"
    make_clip(path, size=SIZE, frames=FRAMES)
    return path


@pytest.fixture(scope="session")
def contender(pan: Path) -> Contender:
    """The embedded model at a short side of 64, five words."""
    return Contender(
        kind=OURS,
        model=str(open_model("atas-tiny").path),
        backend="ort",
        device="cpu",
        short_side=64,
        video=str(pan),
        batch_size=2,
        words=5,
    )

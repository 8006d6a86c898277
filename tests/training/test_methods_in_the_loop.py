"""ATAS and CLIPSelf in the loop: two processes are as one, and a resumed run is as unbroken."""

import copy
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from atas_deploy.clip.model import ClipModel
from atas_deploy.training.atas import AtasObjective, AtasSettings, AtasView
from atas_deploy.training.clipself import ClipSelfObjective, ClipSelfSettings, make_view
from atas_deploy.training.clipself_view import collate_regions
from atas_deploy.training.distributed import SINGLE, Group
from atas_deploy.training.images import open_images
from atas_deploy.training.loader import BatchLoader
from atas_deploy.training.loop import Hooks, LoopSettings, Objective, run

Call = Callable[..., list[Any]]
METHODS = pytest.mark.parametrize("method", ["atas", "atas-infonce", "clipself"])


def make(method: str, clip: ClipModel, photos: Path, group: Group) -> Objective:
    """An objective with random views, on eight images a batch."""
    source = open_images([str(photos)])
    each = {"batch_size": 8 // group.world, "seed": 3, "rank": group.rank, "world": group.world}
    if method == "clipself":
        regions = ClipSelfSettings(size=64, multiscale=(48, 64), max_grid=3, flip=True)
        view = make_view(clip, regions, source.names)
        loader = BatchLoader(source, view, collate=collate_regions, **each)
        return ClipSelfObjective(clip, loader, regions, group=group)
    form = "infonce" if method == "atas-infonce" else "cosine"
    mosaics = AtasSettings(
        size=64,
        grids=(1, 2),
        readout="sclip",
        local_to_local=0.1,
        global_form=form,
        local_form=form,
        views=2,
        watch_every=1,
    )
    view = AtasView(side=32, mode="squash", scale=0.5, views=2)
    return AtasObjective(clip, BatchLoader(source, view, **each), mosaics, group=group)


def train(
    group: Group, method: str, clip: ClipModel, photos: Path, out: Path, stop: int = 0
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights and log row after four steps of two batches, or fewer; goes on if begun."""
    loop = LoopSettings(steps=4, learning_rate=1e-3, accumulate=2, log_every=4)
    count = iter(range(1, 5))
    hooks = Hooks(on_step=lambda: signal.raise_signal(15) if next(count) == stop else None)
    objective, resume = make(method, clip, photos, group), (out / "checkpoint.pt").exists()
    result = run(objective, loop, folder=out, group=group, resume=resume, hooks=hooks)
    return clip.model.state_dict(), dict(result.losses)


@METHODS
def test_two_processes_train_as_one(
    in_two_processes: Call, method: str, tiny_clip: ClipModel, photo_folder: Path, tmp_path: Path
) -> None:
    """Two processes with half of each batch end with the weights of one with all of it."""
    before = copy.deepcopy(tiny_clip.model.state_dict())
    results = in_two_processes(train, method, tiny_clip, photo_folder, tmp_path / "two")
    expected, row = train(SINGLE, method, tiny_clip, photo_folder, tmp_path / "one")
    moved = max(float((expected[n] - t).abs().max()) for n, t in before.items())
    assert moved > 1e-3
    for weights, other in results:
        torch.testing.assert_close(weights, expected, atol=1e-4, rtol=0)
        for name in row.keys() - {"seconds", "images_per_second", "regions"}:  # of a process
            within = 0.02 if name == "relation_error" else 1e-4  # a root mean square of each
            assert other[name] == pytest.approx(row[name], abs=within), name


@METHODS
def test_a_stopped_run_resumes_exactly(
    method: str, tiny_clip: ClipModel, photo_folder: Path, tmp_path: Path
) -> None:
    """Stopped after three steps and begun anew with --resume, it ends as an unbroken run."""
    first, second = copy.deepcopy(tiny_clip), copy.deepcopy(tiny_clip)
    whole, _ = train(SINGLE, method, tiny_clip, photo_folder, tmp_path / "whole")
    train(SINGLE, method, first, photo_folder, tmp_path / "stopped", stop=3)
    again, _ = train(SINGLE, method, second, photo_folder, tmp_path / "stopped")
    assert all(torch.equal(whole[name], tensor) for name, tensor in again.items())

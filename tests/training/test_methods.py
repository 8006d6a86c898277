"""What a run trains with: the teacher's embeddings on disk."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch

from atas_deploy.clip.model import ClipModel
from atas_deploy.training.atas_settings import AtasSettings
from atas_deploy.training.images import open_images
from atas_deploy.training.methods import atas_view, open_cache
from atas_deploy.training.options import AtasOptions
from atas_deploy.training.teacher_cache import TeacherCache


def cache_of(
    clip: ClipModel, photos: Path, folder: Path, *, mode: str, seed: int, crop_scale: float
) -> TeacherCache:
    """The cache that a run opens for a model of a resize mode."""
    clip = copy.deepcopy(clip)
    clip.config["preprocess_cfg"]["resize_mode"] = mode
    view = atas_view(clip, AtasSettings(size=64, crop_scale=crop_scale))
    options = AtasOptions(teacher_cache=folder, seed=seed)
    return open_cache(options, clip, open_images([str(photos)]), view)


@pytest.mark.parametrize(
    ("mode", "crop_scale", "shared"),
    [("shortest", 1.0, False), ("squash", 0.5, False), ("squash", 1.0, True)],
)
def test_seeds_share_embeddings_only_of_whole_images(
    tiny_clip: ClipModel,
    photo_folder: Path,
    tmp_path: Path,
    mode: str,
    crop_scale: float,
    shared: bool,
) -> None:
    """A square cut of a picture lies where the seed says, also at scale 1."""
    opened = partial(cache_of, tiny_clip, photo_folder, tmp_path / "cache")
    rows = torch.arange(12)
    first = opened(mode=mode, crop_scale=crop_scale, seed=0)
    first.store(rows, 0, torch.ones(12, 16))
    assert bool(first.lookup(rows)[1].all())
    again = opened(mode=mode, crop_scale=crop_scale, seed=0)
    assert bool(again.lookup(rows)[1].all())
    other = opened(mode=mode, crop_scale=crop_scale, seed=1)
    assert other.lookup(rows)[1].tolist() == [shared] * 12

"""Student and teacher: what learns and what does not."""

from dataclasses import replace

import pytest
import torch

from atas_deploy.clip.model import ClipModel, build_model
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.atas_settings import AtasSettings
from atas_deploy.training.clipself import make_view
from atas_deploy.training.clipself_settings import ClipSelfSettings
from atas_deploy.training.methods import atas_view
from atas_deploy.training.student import Normalise, Student, frozen_copy, unlock_blocks


def _learning(clip: ClipModel) -> set[str]:
    return {name for name, p in clip.model.named_parameters() if p.requires_grad}


def test_student_encodes_batches_of_several_sizes(tiny_clip: ClipModel) -> None:
    """Each batch gets what the tower alone would give."""
    vit = DenseViT(tiny_clip.model.visual, readout="maskclip")
    batches = [torch.rand(3, 3, 32, 32), torch.rand(1, 3, 64, 96)]
    views = Student(vit)(batches)
    for pixels, view in zip(batches, views, strict=True):
        dense, image = vit(pixels)
        torch.testing.assert_close(view.dense, dense)
        torch.testing.assert_close(view.image, image)


def test_teacher_does_not_move_with_the_student(tiny_clip: ClipModel) -> None:
    """The copy keeps its weights when the model's change."""
    teacher = frozen_copy(tiny_clip, readout="vanilla")
    pixels = torch.rand(1, 3, 32, 32)
    before = teacher(pixels)[1]
    with torch.no_grad():
        for parameter in tiny_clip.model.visual.parameters():
            parameter.add_(1.0)
    assert torch.equal(teacher(pixels)[1], before)
    assert not any(p.requires_grad for p in teacher.parameters())


def test_all_of_the_image_tower_learns_by_default(tiny_clip: ClipModel) -> None:
    """The text tower and the scale never do."""
    unlock_blocks(tiny_clip, last=None, only_blocks=False)
    names = {name for name, _ in tiny_clip.model.named_parameters() if name.startswith("visual.")}
    assert _learning(tiny_clip) == names


@pytest.mark.parametrize(("last", "blocks"), [(1, {"1"}), (2, {"0", "1"}), (None, {"0", "1"})])
def test_only_blocks_learn(tiny_clip: ClipModel, last: int | None, blocks: set[str]) -> None:
    """Stem, positions, final norm and projection are frozen, and the blocks in front."""
    unlock_blocks(tiny_clip, last=last, only_blocks=True)
    learning = _learning(tiny_clip)
    assert all(name.startswith("visual.transformer.resblocks.") for name in learning)
    assert {name.split(".")[3] for name in learning} == blocks


def test_more_blocks_than_there_are_is_refused(tiny_clip: ClipModel) -> None:
    """The message tells how many there are."""
    with pytest.raises(ConfigError, match="the image tower has 2"):
        unlock_blocks(tiny_clip, last=3, only_blocks=True)


def test_pictures_are_as_large_as_whole_patches(tiny_clip: ClipModel) -> None:
    """As in SigLIP models of 384 pixels and patches of 14: no cell would fit 384."""
    model = dict(tiny_clip.config["model_cfg"])
    model["vision_cfg"] = model["vision_cfg"] | {"image_size": 40}
    config = {**tiny_clip.config, "model_cfg": model}
    clip = replace(tiny_clip, model=build_model(config), config=config)
    assert Normalise(clip).size == (32, 32)
    assert atas_view(clip, AtasSettings(size=32, grids=(2,))).side == 32
    assert make_view(clip, ClipSelfSettings(size=32), []).side == 32

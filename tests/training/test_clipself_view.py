"""What student and teacher of CLIPSelf see of a picture."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from atas_deploy.clip.model import ClipModel
from atas_deploy.core.errors import AnnotationError
from atas_deploy.training.clipself import make_view
from atas_deploy.training.clipself_settings import ClipSelfSettings
from atas_deploy.training.clipself_view import ClipSelfView, collate_regions, mirror
from atas_deploy.training.loader import Draw

Pixels = npt.NDArray[np.uint8]


def draw(seed: int, index: int = 0) -> Draw:
    """A draw of a seed."""
    return Draw(index=index, epoch=0, seed=seed, rng=np.random.default_rng(seed))


def ramp(height: int, width: int) -> Pixels:
    """Red grows to the right, green downwards, in whole steps of a pixel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], axis=2).astype(np.uint8)


def propose(path: Path, *boxes: list[float], size: tuple[int, int]) -> Path:
    """Write boxes x, y, width, height of the picture "a.png" (H, W)."""
    image = {"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}
    rows = [{"id": i, "image_id": 1, "category_id": 1, "bbox": b} for i, b in enumerate(boxes)]
    categories = [{"id": 1, "name": "thing"}]
    path.write_text(json.dumps({"images": [image], "categories": categories, "annotations": rows}))
    return path


def view_of(clip: ClipModel, **settings: Any) -> ClipSelfView:
    """A view with a student's square of 64 pixels; the teacher's has 32."""
    return make_view(clip, ClipSelfSettings(size=64, **settings), ["a.png"])


def mean_colours(square: Tensor, boxes: Tensor) -> Tensor:
    """Mean red and green (k, 2) of each box in a square (3, L, L)."""
    edges = (boxes * square.shape[-1]).round().int().tolist()
    parts = [square[:2, y0:y1, x0:x1].float() for x0, y0, x1, y1 in edges]
    return torch.stack([part.mean(dim=(1, 2)) for part in parts])


@pytest.mark.parametrize("shape", [(120, 200), (200, 120), (30, 50), (64, 64)])
@pytest.mark.parametrize("flip", [False, True])
def test_crops_show_what_lies_in_the_boxes(
    tiny_clip: ClipModel, shape: tuple[int, int], flip: bool
) -> None:
    """Of any picture, each region of the student's square has the mean colour of its crop."""
    view = view_of(tiny_clip, flip=flip)
    for seed in range(8):
        sample = view(ramp(*shape), draw(seed))
        found = mean_colours(sample["picture"], sample["boxes"])
        wanted = sample["crops"][:, :2].float().mean(dim=(2, 3))
        assert len(found) == len(wanted) > 0
        assert (found - wanted).abs().max() < 0.02 * max(shape)


def test_half_of_the_pictures_are_mirrored(tiny_clip: ClipModel) -> None:
    """The student's picture and the teacher's are mirrored together, if asked for."""
    for flip, expected in ((True, range(10, 31)), (False, [0])):
        view, mirrored = view_of(tiny_clip, flip=flip), 0
        for seed in range(40):
            sample = view(ramp(64, 64), draw(seed))
            ways = {
                bool(sample[key][0, 0, 0] > sample[key][0, 0, -1]) for key in ("picture", "whole")
            }
            assert len(ways) == 1
            mirrored += ways.pop()
        assert mirrored in expected


def test_mirrored_twice_is_as_before() -> None:
    """Pixels and boxes come back, and a box keeps what it has."""
    image, boxes = ramp(6, 9), np.array([[0.0, 1, 4, 5], [2, 0, 9, 6]])
    other, moved = mirror(image, boxes)
    assert moved.tolist() == [[5, 1, 9, 5], [0, 0, 7, 6]]
    np.testing.assert_array_equal(other[1:5, 5:9][:, ::-1], image[1:5, 0:4])
    again, back = mirror(other, moved)
    np.testing.assert_array_equal(again, image)
    np.testing.assert_array_equal(back, boxes)


def test_the_picture_stands_at_the_upper_left(tiny_clip: ClipModel) -> None:
    """It keeps its proportions; the rest has the mean colour and holds no region."""
    picture = np.full((50, 100, 3), 7, np.uint8)
    view = view_of(tiny_clip)
    for seed in range(20):
        sample = view(picture, draw(seed))
        assert (sample["picture"][:, :32] == 7).all()
        assert (sample["picture"][:, 32:] == 128).all()
        assert float(sample["boxes"][:, 3].max()) <= 0.5
        assert float(sample["boxes"].min()) >= 0
        assert (sample["crops"] == 7).all()


def test_the_filling_is_zero_to_the_model(tiny_clip: ClipModel) -> None:
    """The mean colour in 8 bits is less than a step of a pixel from zero, once normalised."""
    fill = np.array(view_of(tiny_clip).fill) / 255
    assert np.abs((fill - tiny_clip.mean) / tiny_clip.std).max() <= 1 / 255 / min(tiny_clip.std)


def test_crops_come_from_the_picture_on_disk(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """A crop as large as the teacher's square is the very pixels, however small the student's."""
    noise = np.random.default_rng(0).integers(0, 255, (200, 256, 3), np.uint8)
    file = propose(tmp_path / "p.json", [100, 40, 32, 32], size=(200, 256))
    sample = view_of(tiny_clip, proposals=file, proposal_scale=1.0)(noise, draw(0))
    crop = sample["crops"][0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(crop, noise[40:72, 100:132])
    assert sample["boxes"].tolist() == [[100 / 256, 40 / 256, 132 / 256, 72 / 256]]


def test_the_teacher_sees_more_of_a_proposal(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """A crop is enlarged about its centre and cut at the border; the student's box stays."""
    file = propose(tmp_path / "p.json", [20, 30, 32, 16], [0, 0, 40, 20], size=(64, 64))
    sample = view_of(tiny_clip, proposals=file)(ramp(64, 64), draw(1))
    ranges = {}
    for box, crop in zip(sample["boxes"] * 64, sample["crops"], strict=True):
        red, green = crop[0], crop[1]
        ends = [int(x) for x in (red.min(), green.min(), red.max(), green.max())]
        ranges[tuple(box.tolist())] = ends
    assert ranges.keys() == {(20, 30, 52, 46), (0, 0, 40, 20)}
    np.testing.assert_allclose(ranges[20, 30, 52, 46], [12, 26, 59, 49], atol=1)
    np.testing.assert_allclose(ranges[0, 0, 40, 20], [0, 0, 49, 24], atol=1)


def test_no_more_regions_than_asked_for(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """Some of many proposals are drawn, others each time."""
    boxes = [[4.0 * i, 0, 20, 20] for i in range(10)]
    file = propose(tmp_path / "p.json", *boxes, size=(64, 64))
    view, seen = view_of(tiny_clip, proposals=file, max_regions=3), set()
    for seed in range(40):
        found = view(ramp(64, 64), draw(seed))["boxes"]
        assert len(found) == 3
        seen |= set(found[:, 0].tolist())
    assert len(seen) == 10


def test_a_picture_without_proposals_has_no_region(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """It counts for nothing; no region is made up."""
    file = propose(tmp_path / "p.json", [0, 0, 32, 32], size=(64, 64))
    view = make_view(tiny_clip, ClipSelfSettings(size=64, proposals=file), ["a.png", "b.png"])
    sample = view(ramp(64, 64), draw(0, index=1))
    assert sample["boxes"].shape == (0, 4)
    assert sample["crops"].shape == (0, 3, 32, 32)


def test_proposals_of_other_pictures_are_refused(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """Before training begins, with both names."""
    file = propose(tmp_path / "p.json", [0, 0, 32, 32], size=(64, 64))
    with pytest.raises(AnnotationError, match=r"it has a\.png, the first image is z\.png"):
        make_view(tiny_clip, ClipSelfSettings(proposals=file), ["z.png"])


@pytest.mark.parametrize(
    ("mode", "chosen", "fit"),
    [
        ("squash", None, "squash"),
        ("shortest", None, "longest"),
        ("longest", None, "longest"),
        ("squash", "longest", "longest"),
        ("shortest", "squash", "squash"),
    ],
)
def test_crops_are_fitted_as_the_teacher_knows_them(
    tiny_clip: ClipModel, mode: str, chosen: Any, fit: str
) -> None:
    """Squashed for a model of squashed pictures, else whole in a frame, unless asked otherwise."""
    config = tiny_clip.config | {"preprocess_cfg": {"resize_mode": mode, "mean": [0.5] * 3}}
    assert view_of(replace(tiny_clip, config=config), crop_fit=chosen).fit == fit


def test_a_whole_crop_stands_in_the_middle(tiny_clip: ClipModel) -> None:
    """With "longest" the longer side fills the teacher's square and the rest is the mean colour."""
    view = view_of(tiny_clip, crop_fit="longest", max_grid=1)
    (crop,) = view(np.full((20, 80, 3), 9, np.uint8), draw(0))["crops"]
    assert (crop[:, 12:20] == 9).all()
    assert (crop[:, :12] == 128).all()
    assert (crop[:, 20:] == 128).all()


def test_a_sample_depends_on_its_draw_alone(tiny_clip: ClipModel) -> None:
    """A copy in another process makes the same sample, and another draw makes another."""
    view = view_of(tiny_clip, flip=True)
    copy, image = pickle.loads(pickle.dumps(view)), ramp(90, 70)
    one, same, other = view(image, draw(5)), copy(image, draw(5)), view(image, draw(6))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["boxes"], other["boxes"])


def test_regions_of_a_batch_stand_behind_each_other(tiny_clip: ClipModel, tmp_path: Path) -> None:
    """Each region tells its picture, also where one has none."""
    file = propose(tmp_path / "p.json", [0, 0, 32, 32], [8, 8, 40, 40], size=(64, 64))
    view = make_view(tiny_clip, ClipSelfSettings(size=64, proposals=file), ["a.png", "b.png"])
    samples = [view(ramp(64, 64), draw(seed, index=i)) for seed, i in enumerate((0, 1, 0))]
    batch = collate_regions(samples)
    assert batch["owner"].tolist() == [0, 0, 2, 2]
    assert torch.equal(batch["boxes"][2:], samples[2]["boxes"])
    assert torch.equal(batch["crops"][:2], samples[0]["crops"])
    assert batch["picture"].shape == (3, 3, 64, 64)
    assert batch["whole"].shape == (3, 3, 32, 32)

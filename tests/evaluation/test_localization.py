"""Localization: owners and others by hand, recall against scikit-learn, a run written out."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import top_k_accuracy_score

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.region import Region
from atas_deploy.evaluation import localization
from atas_deploy.evaluation.localization import (
    CANDIDATES,
    LocalizationTask,
    find,
    last_owner,
    measure,
)
from atas_deploy.evaluation.region_data import RegionData
from atas_deploy.evaluation.task import run_task
from atas_deploy.runtime.encoders import Encoders

WRITE = Callable[..., Path]
CATEGORIES = [("dog", True), ("grass", False)]
SIDE = 64


def test_a_cell_belongs_to_the_last_mask_over_it() -> None:
    """Cells of 10 x 10 pixels; the second mask lies over the first, and void is nobody's."""
    masks = np.zeros((2, 20, 40), bool)
    masks[0, :, :30] = True
    masks[1, :10, 10:30] = True
    owner = last_owner([Region.from_mask(mask) for mask in masks], size=(20, 40), grid=(2, 4))
    np.testing.assert_array_equal(owner, [[0, 1, 1, -1], [0, 0, 0, -1]])


def test_masks_are_resized_as_opencv_does() -> None:
    """Bicubically, without antialias; what is above 0 there is in."""
    mask = np.zeros((60, 90), bool)
    cv2.circle(canvas := mask.astype(np.uint8), (40, 30), 21, 1, -1)
    region = Region.from_mask(canvas.astype(bool))
    resized = cv2.resize(canvas.astype(np.float64), (11, 7), interpolation=cv2.INTER_CUBIC)
    owner = last_owner([region], size=(60, 90), grid=(7, 11))
    np.testing.assert_array_equal(owner == 0, resized > 1e-6)
    assert 0 < (owner == 0).sum() < owner.size


def test_a_box_has_the_cells_whose_centres_lie_in_it() -> None:
    """Its right and lower ends are outside; the last box holds no centre."""
    boxes = [(0.0, 0.0, 15.0, 20.0), (10.0, 0.0, 25.1, 15.0), (36.0, 0.0, 40.0, 20.0)]
    regions = [Region(box=box) for box in boxes]
    owner = last_owner(regions, size=(20, 40), grid=(2, 4))
    np.testing.assert_array_equal(owner, [[0, 1, 1, -1], [0, -1, -1, -1]])
    assert (last_owner([], size=(20, 40), grid=(2, 4)) == -1).all()


@pytest.mark.parametrize(("own", "start"), [(0, 0), (7, 7), (9, 9), (10, 10), (11, 10), (59, 10)])
def test_the_others_are_the_next_in_the_gallery(own: int, start: int) -> None:
    """Near its end of 60 those before, too: nearer ones matter if they are among them."""
    gallery = np.eye(60, dtype=np.float32)
    candidates = [index for index in range(start, start + CANDIDATES) if index != own]
    for near, there in ((index, index in candidates) for index in range(60) if index != own):
        patch = 0.9 * gallery[near] + 0.1 * gallery[own]
        assert find(patch[None], gallery, own) == [1, int(not there), 1, 1]


def test_scikit_learn_agrees_on_recall() -> None:
    """Top-k accuracy among the 50 in question."""
    rng = np.random.default_rng(0)
    gallery = unit(rng, 70, 6)
    patches = unit_rows(0.6 * gallery[9] + 0.5 * unit(rng, 80, 6))
    found = find(patches, gallery, 9)
    assert found[0] == 80
    scores, truth = patches @ gallery[9:59].T, np.zeros(80, int)
    for place, k in enumerate((1, 5, 10), 1):
        expected = top_k_accuracy_score(truth, scores, k=k, labels=np.arange(50), normalize=False)
        assert found[place] == expected
    assert 0 < found[1] < found[2] < 80


def test_equal_vectors_count_against() -> None:
    """Features that are the same everywhere find nothing."""
    same = np.repeat(unit(np.random.default_rng(0), 1, 512), 50, axis=0)
    assert find(same, same, 20) == [50, 0, 0, 0]


def test_recall_by_hand() -> None:
    """Of 4 patches 1, 2 and 3 find their image."""
    sums = np.array([4.0, 1, 2, 3])
    found = measure({"patch_to_image": sums, "patch_to_region": 0 * sums})
    assert found["patch_to_image_R@1"] == 0.25
    assert found["patch_to_image_R@10"] == 0.75
    assert np.isnan(found["patch_to_region_R@5"])


@pytest.fixture
def data(write_panoptic: WRITE, tmp_path: Path) -> RegionData:
    """Six pictures with one dog each, two with two, of which one is tiny, one with grass alone."""
    pictures = {}
    for i in range(6):
        ids = np.full((SIDE, SIDE), 10 * i + 1)
        ids[8 * i : 8 * i + 24, 5 * i : 5 * i + 30] = 10 * i + 2
        segments = [(10 * i + 1, 1, False), (10 * i + 2, 0, False)]
        if i in (1, 4):
            ids[-4:, -5:] = 10 * i + 3
            segments.append((10 * i + 3, 0, False))
        pictures[f"p{i}"] = ids, segments
    pictures["none"] = np.ones((SIDE, SIDE), int), [(1, 1, False)]
    file = write_panoptic(tmp_path, CATEGORIES, pictures)
    return RegionData(tmp_path / "images", panoptic=file, any_size=True)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_a_run_equals_one_written_out(
    data: RegionData, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    """Every patch of every picture, among 5."""
    monkeypatch.setattr(localization, "CANDIDATES", 5)
    encoders = Encoders(cache=False)
    seen: list[int] = []
    task = LocalizationTask(encoders, data, short_side=SIDE, crop_scale=scale)
    report = run_task(task, advance=lambda: seen.append(1))
    expected = written_out(encoders, data, scale=scale)
    assert {name: score.value for name, score in report.scores.items()} == pytest.approx(expected)
    assert report.rows.names == [*(f"p{i}.png" for i in range(6)), "none.png"]
    assert report.rows.totals()["patch_to_image"][0] == 7 * 16
    assert report.facts["regions"] == 8
    assert len(seen) == task.total == 14
    json.dumps(report.facts)


def written_out(encoders: Encoders, data: RegionData, *, scale: float) -> dict[str, float]:
    """Recall of every patch, one at a time, among all 5 that its rule picks."""
    pictures = list(data)
    whole, dense = encoders.whole(fit="longest"), encoders.dense(short_side=SIDE)
    images = whole([picture.image for picture in pictures])
    crops, names = [], []
    for picture in pictures:
        for region in picture.things:
            x0, y0, x1, y1 = region.box
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            half_w, half_h = scale * (x1 - x0) / 2, scale * (y1 - y0) / 2
            left, top = max(cx - half_w, 0), max(cy - half_h, 0)
            right, low = min(cx + half_w, SIDE), min(cy + half_h, SIDE)
            left, top, right, low = (int(edge + 0.5) for edge in (left, top, right, low))
            crops.append(picture.image[top:low, left:right])
            names.append((picture.name, region.source_id))
    regions = whole(crops)
    places: dict[str, list[int]] = {"patch_to_image": [], "patch_to_region": []}
    for number, picture in enumerate(pictures):
        features = dense(picture.image).dense.reshape(16, -1)
        owner = np.full(16, -1)
        for region in picture.things:
            mask = region.mask().astype(np.float64)
            small = cv2.resize(mask, (4, 4), interpolation=cv2.INTER_CUBIC)
            owner[small.ravel() > 1e-6] = names.index((picture.name, region.source_id))
        for feature, own in zip(features, owner, strict=True):
            places["patch_to_image"].append(place(feature, images, number))
            if own >= 0:
                places["patch_to_region"].append(place(feature, regions, int(own)))
    return {
        f"{kind}_R@{k}": float(np.mean(np.array(found) < k))
        for kind, found in places.items()
        for k in (1, 5, 10)
    }


def place(feature: npt.NDArray[Any], gallery: npt.NDArray[Any], own: int) -> int:
    """Where a patch finds its own: among the 4 next ones, then those before."""
    others = [i for i in range(own + 1, own + 5) if i < len(gallery)]
    others += range(own - (4 - len(others)), own)
    order = sorted([own, *others], key=lambda i: -float(gallery[i] @ feature))
    return order.index(own)


def test_patches_ask_a_second_model(data: RegionData, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is embedded by it stays the same whatever the read-out of the first."""
    monkeypatch.setattr(localization, "CANDIDATES", 5)
    first, second = Encoders(readout="maskclip", cache=False), Encoders(cache=False)
    with_targets = run_task(LocalizationTask(first, data, targets=second, short_side=SIDE))
    alone = run_task(LocalizationTask(first, data, short_side=SIDE))
    assert list(with_targets.rows.lines()) == list(alone.rows.lines())
    assert with_targets.facts["targets"] == second.bundle.manifest.name
    assert with_targets.facts["readout"] == "maskclip"


def test_targets_of_another_width_are_refused(data: RegionData) -> None:
    """Cosines with them would mean nothing."""
    first, second = Encoders(cache=False), Encoders(cache=False)
    narrow = replace(second.bundle.manifest, embed_dim=64)
    second.bundle = replace(second.bundle, manifest=narrow)
    with pytest.raises(ConfigError, match="targets have 64 numbers"):
        LocalizationTask(first, data, targets=second)


def test_a_sample_of_patches_is_drawn_by_the_seed(
    data: RegionData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as asked for, the same ones again."""
    monkeypatch.setattr(localization, "CANDIDATES", 3)
    encoders = Encoders(cache=False)

    def lines(seed: int) -> list[dict[str, object]]:
        task = LocalizationTask(encoders, data, short_side=128, patches=5, seed=seed)
        report = run_task(task)
        assert report.rows.totals()["patch_to_image"][0] == 7 * 5
        return list(report.rows.lines())

    assert lines(1) == lines(1)
    assert lines(1) != lines(2)


def test_crowds_own_no_patch_and_are_no_candidate(
    write_panoptic: WRITE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half of each picture is a crowd; the patches of the other half ask."""
    monkeypatch.setattr(localization, "CANDIDATES", 2)
    ids = np.ones((SIDE, SIDE), int)
    ids[:, 32:] = 2
    segments = [(1, 0, False), (2, 0, True)]
    file = write_panoptic(tmp_path, CATEGORIES, {"a": (ids, segments), "b": (ids, segments)})
    data = RegionData(tmp_path / "images", panoptic=file, any_size=True)
    report = run_task(LocalizationTask(Encoders(cache=False), data, short_side=SIDE))
    assert report.facts["regions"] == 2
    totals = report.rows.totals()
    assert (totals["patch_to_image"][0], totals["patch_to_region"][0]) == (32, 16)


def test_too_few_pictures_or_regions_are_refused(data: RegionData) -> None:
    """50 of each are needed, of which 49 are wrong answers."""
    with pytest.raises(InputError, match=r"7 pictures to measure with 8 things; .* 50 of each"):
        LocalizationTask(Encoders(cache=False), data, short_side=SIDE)


def unit_rows(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Vectors divided by their lengths."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def unit(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    """Random unit vectors."""
    return unit_rows(rng.normal(size=shape))

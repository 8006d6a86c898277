"""Localization: cells and boxes by hand, recall against scikit-learn, a run written out."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import top_k_accuracy_score

from atas_deploy.core.errors import InputError
from atas_deploy.evaluation import localization
from atas_deploy.evaluation.localization import (
    CANDIDATES,
    LocalizationTask,
    draw_others,
    find,
    measure,
    smallest_box,
)
from atas_deploy.evaluation.region_data import RegionData
from atas_deploy.evaluation.task import run_task
from atas_deploy.runtime.encoders import Encoders

CATEGORIES = [("dog", True), ("grass", False)]
SIDE, CELL = 64, 16


def test_a_cell_belongs_to_the_smallest_box_that_holds_its_centre() -> None:
    """Cells of 10 x 10 pixels; the second box lies in the first, the third holds no centre."""
    boxes = [(0.0, 0.0, 30.0, 20.0), (10.0, 0.0, 20.0, 20.0), (36.0, 0.0, 40.0, 20.0)]
    owner = smallest_box(boxes, size=(20, 40), grid=(2, 4))
    np.testing.assert_array_equal(owner, [[0, 1, 0, -1], [0, 1, 0, -1]])


def test_the_first_of_equal_boxes_owns_their_cells() -> None:
    """Whatever their order among others; a box's right and lower ends are outside."""
    boxes = [(0.0, 0.0, 15.0, 10.0), (0.0, 0.0, 15.0, 10.0)]
    np.testing.assert_array_equal(smallest_box(boxes, size=(10, 20), grid=(1, 2)), [[0, -1]])


def test_no_box_owns_nothing() -> None:
    """All cells are left alone."""
    assert (smallest_box([], size=(10, 10), grid=(2, 2)) == -1).all()


def test_others_are_different_and_not_the_image_itself() -> None:
    """With 50 images they are all the others; with more each one is drawn at times."""
    generator = np.random.default_rng(0)
    assert sorted(draw_others(CANDIDATES, 7, generator=generator)) == [
        i for i in range(CANDIDATES) if i != 7
    ]
    drawn = [draw_others(60, 3, generator=generator) for _ in range(50)]
    assert all(len(set(others)) == CANDIDATES - 1 for others in drawn)
    assert {*np.concatenate(drawn)} == {*range(60)} - {3}


def test_scikit_learn_agrees_on_recall() -> None:
    """Top-k accuracy with the right answer as class 0 of 50."""
    rng = np.random.default_rng(0)
    patches, own, others = (unit(rng, n, 6) for n in (80, 80, 49))
    own = unit_rows(0.6 * own + 0.4 * patches)
    found = find(patches, own, others)
    scores = np.concatenate([(patches * own).sum(1)[:, None], patches @ others.T], axis=1)
    truth, labels = np.zeros(80, int), np.arange(50)
    assert found[0] == 80
    for place, k in enumerate((1, 5, 10), 1):
        expected = top_k_accuracy_score(truth, scores, k=k, labels=labels, normalize=False)
        assert found[place] == expected


def test_equal_vectors_count_against() -> None:
    """Features that are the same everywhere find nothing."""
    same = np.repeat(unit(np.random.default_rng(0), 1, 512), 49, axis=0)
    assert find(same, same, same) == [49, 0, 0, 0]


def test_recall_by_hand() -> None:
    """Of 4 patches 1, 2 and 3 find their image."""
    sums = np.array([4.0, 1, 2, 3])
    found = measure({"patch_to_image": sums, "patch_to_region": 0 * sums})
    assert found["patch_to_image_R@1"] == 0.25
    assert found["patch_to_image_R@10"] == 0.75
    assert np.isnan(found["patch_to_region_R@5"])


@pytest.fixture
def data(write_panoptic: Callable[..., Path], tmp_path: Path) -> RegionData:
    """Six pictures with one dog each, at different places, and one with grass alone."""
    pictures = {}
    for i in range(6):
        ids = np.full((SIDE, SIDE), 10 * i + 1)
        ids[8 * i : 8 * i + 24, 5 * i : 5 * i + 30] = 10 * i + 2
        pictures[f"p{i}"] = ids, [(10 * i + 1, 1, False), (10 * i + 2, 0, False)]
    pictures["none"] = np.ones((SIDE, SIDE), int), [(1, 1, False)]
    file = write_panoptic(tmp_path, CATEGORIES, pictures)
    return RegionData(tmp_path / "images", panoptic=file)


def test_a_run_equals_one_written_out(data: RegionData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among all six pictures, whose draw is known, with all patches."""
    monkeypatch.setattr(localization, "CANDIDATES", 6)
    encoders = Encoders(cache=False)
    seen: list[int] = []
    task = LocalizationTask(encoders, data, short_side=SIDE, patches=1000)
    report = run_task(task, advance=lambda: seen.append(1))
    expected = written_out(encoders, data)
    assert {name: score.value for name, score in report.scores.items()} == pytest.approx(expected)
    assert report.rows.names == [f"p{i}.png" for i in range(6)]
    assert report.facts["images_without_region"] == 1
    assert len(seen) == task.total == 14
    json.dumps(report.facts)


def written_out(encoders: Encoders, data: RegionData) -> dict[str, float]:
    """Recall of every patch of the dogs, one at a time."""
    pictures = [picture for picture in data if picture.things]
    whole, dense = encoders.whole(fit="longest"), encoders.dense(short_side=SIDE)
    images = whole([picture.image for picture in pictures])
    crops = []
    for picture in pictures:
        x0, y0, x1, y1 = map(int, picture.things[0].box)
        crops.append(picture.image[y0:y1, x0:x1])
    regions = whole(crops)
    places: dict[str, list[int]] = {"patch_to_image": [], "patch_to_region": []}
    for own, picture in enumerate(pictures):
        x0, y0, x1, y1 = picture.things[0].box
        features = dense(picture.image).dense
        for row in range(SIDE // CELL):
            for column in range(SIDE // CELL):
                y, x = CELL * (row + 0.5), CELL * (column + 0.5)
                if y0 <= y < y1 and x0 <= x < x1:
                    for kind, gallery in (("image", images), ("region", regions)):
                        order = np.argsort(-(gallery @ features[row, column]))
                        places[f"patch_to_{kind}"].append(order.tolist().index(own))
    return {
        f"{kind}_R@{k}": float(np.mean(np.array(found) < k))
        for kind, found in places.items()
        for k in (1, 5, 10)
    }


def test_a_sample_of_patches_is_drawn_by_the_seed(
    data: RegionData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as asked for, the same ones again."""
    monkeypatch.setattr(localization, "CANDIDATES", 3)
    encoders = Encoders(cache=False)

    def lines(seed: int) -> list[dict[str, object]]:
        task = LocalizationTask(encoders, data, short_side=128, patches=5, seed=seed)
        report = run_task(task)
        assert report.rows.totals()["patch_to_image"][0] == 6 * 5
        return list(report.rows.lines())

    assert lines(1) == lines(1)
    assert lines(1) != lines(2)


def test_a_box_between_the_centres_asks_nothing(
    write_panoptic: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its picture counts no patch; with no patch at all there is no recall."""
    monkeypatch.setattr(localization, "CANDIDATES", 2)
    ids = np.ones((256, 256), int)
    ids[0:8, 0:8] = 2  # cells of 64 pixels
    segments = [(1, 1, False), (2, 0, False)]
    file = write_panoptic(tmp_path, CATEGORIES, {"a": (ids, segments), "b": (ids, segments)})
    data = RegionData(tmp_path / "images", panoptic=file)
    report = run_task(LocalizationTask(Encoders(cache=False), data, short_side=SIDE))
    assert all(np.isnan(score.value) for score in report.scores.values())


def test_too_few_pictures_are_refused(data: RegionData) -> None:
    """50 are needed, of which 49 are wrong answers."""
    task = LocalizationTask(Encoders(cache=False), data, short_side=SIDE)
    with pytest.raises(InputError, match=r"6 pictures of .*needs 50 at least"):
        run_task(task)


def unit_rows(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Vectors divided by their lengths."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def unit(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    """Random unit vectors."""
    return unit_rows(rng.normal(size=shape))

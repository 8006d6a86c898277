"""Retrieval: ranks by hand, against a sort and torchmetrics, and a run of the embedded model."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchmetrics.retrieval import RetrievalHitRate

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.evaluation import retrieval
from atas_deploy.evaluation.captioned import Captioned
from atas_deploy.evaluation.recall import count_found
from atas_deploy.evaluation.retrieval import (
    RetrievalTask,
    image_to_text_ranks,
    measure,
    text_to_image_ranks,
)
from atas_deploy.evaluation.task import run_task
from atas_deploy.runtime.encoders import Encoders

Features = npt.NDArray[np.float32]


def unit(rng: np.random.Generator, *shape: int) -> Features:
    """Random unit vectors."""
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def random_set() -> tuple[Features, Features, npt.NDArray[np.intp]]:
    """40 images with 1 to 4 captions each that lie near them, some captions of one far off."""
    rng = np.random.default_rng(0)
    images = unit(rng, 40, 8)
    owner = np.repeat(np.arange(40), rng.integers(1, 5, 40))
    texts = images[owner] + 0.9 * unit(rng, len(owner), 8)
    return images, texts / np.linalg.norm(texts, axis=1, keepdims=True), owner


def test_ranks_by_hand() -> None:
    """Three images, four captions; caption 1 is nearer to image 0 than to its own."""
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [0.6, 0, 0.8]], np.float32)
    owner = np.array([0, 1, 1, 2])
    np.testing.assert_array_equal(text_to_image_ranks(images, texts, owner), [0, 1, 0, 0])
    np.testing.assert_array_equal(image_to_text_ranks(images, texts, owner), [0, 0, 0])


def test_an_image_that_its_captions_miss() -> None:
    """Its best own caption counts, and only captions of others come before it."""
    images = np.eye(2, dtype=np.float32)
    texts = np.array([[0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32)
    owner = np.array([1, 0, 1])
    np.testing.assert_array_equal(image_to_text_ranks(images, texts, owner), [1, 0])


def test_equal_images_count_against() -> None:
    """A model that maps everything to one vector finds nothing."""
    same = np.repeat(unit(np.random.default_rng(0), 1, 512), 300, axis=0)
    owner = np.arange(300)
    assert set(text_to_image_ranks(same, same, owner)) == {299}
    assert set(image_to_text_ranks(same, same, owner)) == {299}


def test_ranks_are_places_in_a_sorted_list(random_set: Any) -> None:
    """Written out, one query at a time."""
    images, texts, owner = random_set
    for text, rank in enumerate(text_to_image_ranks(images, texts, owner)):
        order = sorted(range(len(images)), key=lambda i: -float(images[i] @ texts[text]))
        assert order.index(owner[text]) == rank
    for image, rank in enumerate(image_to_text_ranks(images, texts, owner)):
        order = sorted(range(len(texts)), key=lambda t: -float(images[image] @ texts[t]))
        places = [order.index(text) for text in np.flatnonzero(owner == image)]
        assert min(places) == rank


def test_blocks_change_nothing(random_set: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One query at a time or all at once."""
    whole = text_to_image_ranks(*random_set), image_to_text_ranks(*random_set)
    monkeypatch.setattr(retrieval, "_AT_ONCE", 1)
    np.testing.assert_array_equal(text_to_image_ranks(*random_set), whole[0])
    np.testing.assert_array_equal(image_to_text_ranks(*random_set), whole[1])


def plain_recall(images: Any, texts: Any, owner: Any) -> dict[str, float]:
    """Recalls in percent from the whole table of cosines."""
    cosines = texts @ images.T
    own = cosines[np.arange(len(owner)), owner]
    mine = owner[:, None] == np.arange(len(images))
    best = np.where(mine, cosines, -np.inf).max(axis=0)
    ranks = {
        "text_to_image": (cosines > own[:, None]).sum(axis=1),
        "image_to_text": (np.where(mine, -np.inf, cosines) > best).sum(axis=0),
    }
    return {
        f"{kind}_R@{k}": 100 * float((rank < k).mean())
        for kind, rank in ranks.items()
        for k in (1, 5, 10)
    }


def test_a_whole_table_and_torchmetrics_agree(random_set: Any) -> None:
    """Recalls from all cosines at once, and the hit rate of torchmetrics."""
    images, texts, owner = random_set
    to_image = text_to_image_ranks(images, texts, owner)
    to_text = image_to_text_ranks(images, texts, owner)
    expected = plain_recall(images, texts, owner)
    cosines = torch.tensor(images @ texts.T)
    mine = torch.tensor(owner)[None] == torch.arange(len(images))[:, None]
    for k in (1, 5, 10):
        assert 100 * np.mean(to_image < k) == pytest.approx(expected[f"text_to_image_R@{k}"])
        assert 100 * np.mean(to_text < k) == pytest.approx(expected[f"image_to_text_R@{k}"])
        hit_rate = RetrievalHitRate(top_k=k)
        query = torch.arange(len(images))[:, None].expand_as(mine)
        hit_rate.update(cosines.ravel(), mine.ravel(), indexes=query.ravel())
        assert hit_rate.compute().item() == pytest.approx(np.mean(to_text < k))


def test_recall_of_replicates() -> None:
    """Sums broadcast over leading axes; without queries there is none."""
    sums = np.array([[4.0, 1, 2, 4], [0, 0, 0, 0]])
    found = measure({"text_to_image": sums})
    np.testing.assert_array_equal(found["text_to_image_R@1"], [0.25, np.nan])
    np.testing.assert_array_equal(found["text_to_image_R@10"], [1.0, np.nan])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of one colour."""
    (tmp_path / "pictures").mkdir()
    for name, colour in (("a", (250, 0, 0)), ("b", (0, 250, 0)), ("c", (0, 0, 250))):
        pixels = np.full((40, 60, 3), colour, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{name}.png")
    return tmp_path / "pictures"


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Two captions of each, and one of a picture that is missing."""
    rows = [(n, f"{word} {c}") for n, c in (("a", "red"), ("b", "green"), ("c", "blue"))
            for word in ("a wall painted", "something")]  # fmt: skip
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("image", "caption"), *((f"{n}.png", t) for n, t in rows)])
        writer.writerow(("d.png", "a dog"))
    return tmp_path / "captions.csv"


def test_a_run_equals_the_encoders_own_features(pictures: Path, captions: Path) -> None:
    """Scores are those of features that are embedded one by one."""
    encoders = Encoders(cache=False)
    seen = []
    task = RetrievalTask(encoders, Captioned(pictures, captions, per_image=1))
    report = run_task(task, advance=lambda: seen.append(1))
    images = encoders.whole()([pictures / f"{n}.png" for n in "abc"])
    words = [f"a wall painted {c}" for c in ("red", "green", "blue")]
    texts = encoders.texts("none")(words)
    recalls = plain_recall(images, texts, np.arange(3))
    expected = {name: value for name, value in recalls.items() if name.endswith("R@1")}
    assert {name: 100 * score.value for name, score in report.scores.items()} == pytest.approx(
        expected, abs=0.005
    )
    assert len(seen) == task.total == len(report.rows) == 3
    assert report.facts["images_missing"] == 1
    assert report.facts["captions_in_all"] == 3
    json.dumps(report.facts)


def test_all_captions_of_an_image_count(pictures: Path, captions: Path) -> None:
    """Two queries an image from text, one from the image."""
    report = run_task(RetrievalTask(Encoders(cache=False), Captioned(pictures, captions)))
    totals = report.rows.totals()
    assert totals["text_to_image"][0] == 6
    assert totals["image_to_text"][0] == 3


def test_captions_of_other_pictures_are_refused(captions: Path, tmp_path: Path) -> None:
    """Before a model is loaded."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"None of the 4 pictures of .* is in .*empty; give"):
        Captioned(tmp_path / "empty", captions)


def test_one_picture_is_refused(pictures: Path, captions: Path) -> None:
    """There is nothing to tell it from."""
    for name in "bc":
        (pictures / f"{name}.png").unlink()
    with pytest.raises(InputError, match=r"One picture of .* give two or more"):
        Captioned(pictures, captions)


def test_swapped_files_are_told_apart(pictures: Path, captions: Path) -> None:
    """By one sentence that names both options."""
    for wrong in (pictures, pictures / "a.png"):
        with pytest.raises(InputError, match=r"holds no captions; .* --captions, .* --images"):
            Captioned(captions, wrong)


def test_recall_that_is_certain_is_left_out(pictures: Path, captions: Path) -> None:
    """With 2 other images and 4 captions of others, recall at 5 and 10 would be 1 for any model."""
    task = RetrievalTask(Encoders(cache=False), Captioned(pictures, captions))
    assert list(run_task(task).scores) == ["text_to_image_R@1", "image_to_text_R@1"]


@pytest.mark.parametrize(("others", "kept"), [(4, 1), (5, 2), (9, 2), (10, 3)])
def test_the_last_that_can_miss_is_kept(others: int, kept: int) -> None:
    """An answer behind all others is not among the first k."""
    found = count_found(np.array([others, 0]), others=others)
    assert found == [2, *[1] * kept]
    assert len(measure({"text_to_image": np.array(found, float)})) == kept


def test_a_name_of_two_pictures_is_refused_before_a_run(pictures: Path, captions: Path) -> None:
    """If a caption has it."""
    (pictures / "x").mkdir()
    (pictures / "y").mkdir()
    for name in ("x/d.png", "y/d.png"):
        Image.new("RGB", (60, 40)).save(pictures / name)
    with pytest.raises(InputError, match=r"2 files named d\.png"):
        Captioned(pictures, captions)


def test_an_unknown_fit_is_refused(pictures: Path, captions: Path) -> None:
    """By the name of the setting."""
    with pytest.raises(ConfigError, match='Unknown fit "stretch"'):
        RetrievalTask(Encoders(cache=False), Captioned(pictures, captions), fit="stretch")

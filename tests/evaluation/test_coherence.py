"""Semantic coherence of patches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.metrics import auc_of_histograms
from atas_deploy.evaluation import coherence as module
from atas_deploy.evaluation.coherence import (
    BINS,
    CoherenceTask,
    Patches,
    count_pairs,
    labelled_patches,
    measure,
    patch_labels,
)
from atas_deploy.evaluation.label_folder import LabelFolder
from atas_deploy.evaluation.task import Report, run_task
from atas_deploy.evaluation.truth import VOID
from atas_deploy.runtime.encoders import Encoders


def patches(seed: int, count: int, *, spread: float = 0.0, classes: int = 4) -> Patches:
    """Random unit vectors (count, 16), drawn to the direction of their class."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(1, classes + 1, count)
    centres = np.random.default_rng(99).standard_normal((classes + 1, 16))
    features = generator.standard_normal((count, 16)) + spread * centres[labels]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return Patches(features.astype(np.float32), labels)


def exact_auc(a: Patches, b: Patches | None = None) -> float:
    """Of all pairs, one by one, by scikit-learn."""
    other = a if b is None else b
    cosines = a.features.astype(float) @ other.features.astype(float).T
    same = a.labels[:, None] == other.labels
    which = np.triu_indices(len(a.labels), k=1) if b is None else np.indices(cosines.shape)
    return float(roc_auc_score(same[tuple(which)].ravel(), cosines[tuple(which)].ravel()))


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_area_of_pairs_equals_sklearn(spread: float) -> None:
    """Within 0.0001, though only histograms are kept."""
    found = patches(0, 300, spread=spread)
    assert auc_of_histograms(*count_pairs(found)) == pytest.approx(exact_auc(found), abs=1e-4)


def test_area_of_pairs_between_two_sets_equals_sklearn() -> None:
    """Each of the one with each of the other."""
    a, b = patches(0, 200, spread=0.7), patches(1, 150, spread=0.7)
    counts = count_pairs(a, b)
    assert counts.sum() == 200 * 150
    assert auc_of_histograms(*counts) == pytest.approx(exact_auc(a, b), abs=1e-4)


def test_features_that_are_close_to_each_other() -> None:
    """Cosines that spread by 0.02 around 0.9 are still told apart."""
    found = patches(0, 400, spread=0.6)
    offset = np.zeros(16)
    offset[0] = 3.2
    features = found.features + offset
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    close = Patches(features.astype(np.float32), found.labels)
    assert np.std((features @ features.T)[np.triu_indices(400, 1)]) < 0.03
    assert auc_of_histograms(*count_pairs(close)) == pytest.approx(exact_auc(close), abs=1e-4)


def test_each_pair_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where not all fit into memory at once."""
    found = patches(0, 50)
    whole = count_pairs(found)
    assert whole.sum() == 50 * 49 / 2
    monkeypatch.setattr(module, "_AT_ONCE", 7 * 50)
    np.testing.assert_array_equal(count_pairs(found), whole)


def test_random_features_know_nothing() -> None:
    """The area is one half."""
    assert auc_of_histograms(*count_pairs(patches(0, 1_000))) == pytest.approx(0.5, abs=0.005)


def test_perfect_features_know_all() -> None:
    """One direction for each class."""
    labels = np.arange(40) % 4
    assert (
        auc_of_histograms(*count_pairs(Patches(np.eye(4, dtype=np.float32)[labels], labels))) == 1
    )


def test_cosines_of_one_and_minus_one_have_bins() -> None:
    """The last one and the first one, also where rounding goes beyond."""
    features = np.array([[1.0000001, 0], [1, 0], [-1.0000001, 0]], np.float32)
    counts = count_pairs(Patches(features, np.array([1, 1, 2])))
    assert counts[0, BINS - 1] == 1
    assert counts[1, 0] == 2


def test_patch_labels_by_hand() -> None:
    """A majority, a tie that the lower label wins, void around, and no half for any."""
    labels = np.array(
        [
            [1, 1, 2, 2, VOID, VOID],
            [1, 2, 1, 1, VOID, 3],
            [0, 0, 1, 2, VOID, VOID],
            [0, 1, 3, 1, VOID, VOID],
        ],
        np.uint16,
    )
    labels[3, 3] = 4
    found = patch_labels(labels, (2, 3))
    np.testing.assert_array_equal(found, [[1, 1, 3], [0, VOID, VOID]])


def test_patch_labels_equal_a_loop() -> None:
    """Cells whose borders cut through pixels, which count by their share."""
    labels = np.random.default_rng(0).choice([1, 2, VOID], (7, 10)).astype(np.uint16)
    found = patch_labels(labels, (3, 4))
    for r, c in np.ndindex(3, 4):
        area = {1: 0.0, 2: 0.0}
        for y, x in np.ndindex(7, 10):
            down = min(y + 1, (r + 1) * 7 / 3) - max(y, r * 7 / 3)
            across = min(x + 1, (c + 1) * 10 / 4) - max(x, c * 10 / 4)
            if labels[y, x] in area:
                area[int(labels[y, x])] += max(down, 0) * max(across, 0)
        assert found[r, c] == max(area, key=lambda label: area[label])


def test_background_and_void_patches_do_not_count() -> None:
    """The others keep their places, and get unit length."""
    labels = np.array([[0, 2], [VOID, 5]], np.uint16)
    dense = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    found = labelled_patches(dense, labels)
    assert found.labels.tolist() == [2, 5]
    np.testing.assert_allclose(found.features[0] * np.sqrt(50), [3, 4, 5], rtol=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of two stripes of different textures with labels, a fifth without any."""
    folder = tmp_path_factory.mktemp("coherence")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for i in range(5):
        generator = np.random.default_rng(i)
        image = np.zeros((64, 96, 3), np.uint8)
        image[:, :48] = generator.integers(0, 255, (64, 48, 3))
        image[:, 48:] = (np.arange(48) // 8 % 2 * 200)[:, None]
        labels = np.full((64, 96), 255, np.uint8)
        if i < 4:
            labels[:, :48], labels[:, 48:] = 1, 2
        Image.fromarray(image).save(folder / f"images/{i}.png")
        Image.fromarray(labels).save(folder / f"labels/{i}.png")
    return folder


def run(data: Path, *, limit: int | None = None, **settings: int) -> Report:
    """The report of the embedded model."""
    encoders = Encoders()
    truth = LabelFolder(data / "images", data / "labels", limit=limit)
    task = CoherenceTask(encoders, encoders.dense(short_side=128), truth, **settings)
    return run_task(task, replicates=100)


def test_task_equals_scikit_learn(data: Path) -> None:
    """Features and labels of all cells put together by hand give the same areas."""
    report = run(data)
    assert sorted(report.rows.names) == ["0", "1", "2", "3"]  # nothing is labelled in the fifth
    encoder = Encoders().dense(short_side=128)
    same, cosines, own = [], [], []
    for i in range(4):
        dense = encoder(data / f"images/{i}.png").dense
        height, width = dense.shape[:2]
        labels = np.where(np.arange(width) < width / 2, 1, 2)[None].repeat(height, 0).ravel()
        features = dense.reshape(len(labels), -1).astype(float)
        pairs = np.triu_indices(len(labels), 1)
        same.append((labels[:, None] == labels)[pairs])
        cosines.append((features @ features.T)[pairs])
        own.append(roc_auc_score(same[-1], cosines[-1]))
    expected = roc_auc_score(np.concatenate(same), np.concatenate(cosines))
    assert report.scores["auc"].value == pytest.approx(expected, abs=1e-4)
    assert report.scores["image_auc"].value == pytest.approx(np.mean(own), abs=1e-4)
    assert expected > 0.6  # noise is unlike stripes


def test_pairs_across_pictures_leave_out_their_own(data: Path) -> None:
    """Two pictures are the bank; each patch of the others is compared with all of its patches."""
    report = run(data, limit=4, bank=2, drawn=8)
    totals = report.rows.totals()
    assert totals["across_same"].sum() + totals["across_other"].sum() == (2 * 8) * (2 * 8)
    image = 4 * BINS  # its place behind the histograms
    compared = [
        line
        for line in report.rows.lines()
        if any(2 * BINS <= column < image for column in line["columns"])
    ]
    assert len(report.rows) == 4
    assert len(compared) == 2


def test_a_seed_draws_again(data: Path) -> None:
    """The same bank and the same patches, and others with another seed."""
    one, again, other = (run(data, drawn=8, seed=seed) for seed in (0, 0, 1))
    assert one.rows.names == again.rows.names
    totals = [report.rows.totals()["across_same"] for report in (one, again, other)]
    np.testing.assert_array_equal(totals[0], totals[1])
    assert (totals[0] != totals[2]).any()


def test_a_single_picture_has_no_pairs_across(data: Path) -> None:
    """And so no such score; half of the pictures at most are the bank."""
    report = run(data, limit=1)
    assert report.facts["bank"] == 0
    assert np.isnan(report.scores["across_auc"].value)
    assert not np.isnan(report.scores["auc"].value)


@pytest.mark.parametrize(
    "settings", [{"bank": -1}, {"drawn": 0}], ids=lambda settings: next(iter(settings))
)
def test_numbers_out_of_range(data: Path, settings: dict[str, int]) -> None:
    """Are refused."""
    with pytest.raises(ConfigError, match="expected"):
        run(data, **settings)


def test_windows_merged_as_pixels_have_no_patches(data: Path) -> None:
    """They are refused before anything is encoded."""
    encoders = Encoders()
    encoder = encoders.dense(short_side=128, window=64, merge="pixels")
    with pytest.raises(ConfigError, match="merge as features"):
        CoherenceTask(encoders, encoder, LabelFolder(data / "images", data / "labels"))


def test_measure_keeps_replicates() -> None:
    """Each its own areas."""
    found = count_pairs(patches(0, 60, spread=1.0))
    stack: Callable[[np.ndarray], np.ndarray] = lambda x: np.stack([x, 3 * x])  # noqa: E731
    totals = {"same": stack(found[0]), "other": stack(found[1])}
    totals |= {"across_same": stack(found[1]), "across_other": stack(found[0])}
    scores = measure(totals | {"image": np.array([[1.5, 2], [0, 0]])})
    area = auc_of_histograms(*found)
    np.testing.assert_allclose(scores["auc"], [area, area])
    np.testing.assert_allclose(scores["across_auc"], [1 - area, 1 - area])
    np.testing.assert_allclose(scores["image_auc"], [0.75, np.nan])

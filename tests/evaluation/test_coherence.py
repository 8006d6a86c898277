"""Semantic coherence of patches."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.metrics import auc_of_histograms
from atas_deploy.evaluation.bootstrap import compare
from atas_deploy.evaluation.coherence import CoherenceTask, measure
from atas_deploy.evaluation.label_folder import LabelFolder
from atas_deploy.evaluation.pairs import BINS
from atas_deploy.evaluation.task import Report, run_task
from atas_deploy.runtime.encoders import Encoders


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


def run(data: Path, *, limit: int | None = None, short_side: int = 128, **settings: int) -> Report:
    """The report of the embedded model."""
    encoders = Encoders()
    truth = LabelFolder(data / "images", data / "labels", limit=limit)
    task = CoherenceTask(encoders, encoders.dense(short_side=short_side), truth, **settings)
    return run_task(task, replicates=100)


def features_of(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of all cells of a picture, put together by hand."""
    dense = Encoders().dense(short_side=128)(data / f"images/{name}.png").dense
    height, width = dense.shape[:2]
    labels = np.where(np.arange(width) < width / 2, 1, 2)[None].repeat(height, 0).ravel()
    return dense.reshape(len(labels), -1).astype(float), labels


def test_task_equals_scikit_learn(data: Path) -> None:
    """All pairs within a picture, together and picture by picture."""
    report = run(data)
    same, cosines, own = [], [], []
    for name in "0123":  # nothing is labelled in the fifth
        features, labels = features_of(data, name)
        pairs = np.triu_indices(len(labels), 1)
        same.append((labels[:, None] == labels)[pairs])
        cosines.append((features @ features.T)[pairs])
        own.append(roc_auc_score(same[-1], cosines[-1]))
    expected = roc_auc_score(np.concatenate(same), np.concatenate(cosines))
    assert report.scores["auc"].value == pytest.approx(expected, abs=1e-4)
    assert report.scores["image_auc"].value == pytest.approx(np.mean(own), abs=1e-4)
    assert expected > 0.6  # noise is unlike stripes


def test_pairs_across_pictures_equal_scikit_learn(data: Path) -> None:
    """All pairs between the two pictures of a group, and none between groups."""
    report = run(data, limit=4, group=2, drawn=1_000)
    same, cosines = [], []
    for a, b in (report.rows.names[:2], report.rows.names[2:]):
        (first, labels), (second, others) = features_of(data, a), features_of(data, b)
        cosines.append((first @ second.T).ravel())
        same.append((labels[:, None] == others).ravel())
    expected = roc_auc_score(np.concatenate(same), np.concatenate(cosines))
    assert report.scores["across_auc"].value == pytest.approx(expected, abs=1e-4)
    totals = report.rows.totals()
    assert totals["across_same"].sum() == np.concatenate(same).sum()
    assert totals["across_other"].sum() == (~np.concatenate(same)).sum()


def test_pairs_across_pictures_are_in_one_row_a_group(data: Path) -> None:
    """So that rows have nothing in common; half of the pictures at most make a group."""
    report = run(data, limit=4, group=4, drawn=8)
    assert report.facts["group"] == 2
    compared = [
        any(2 * BINS <= column < 4 * BINS for column in line["columns"])
        for line in report.rows.lines()
    ]
    assert compared == [False, True, False, True]
    totals = report.rows.totals()
    assert totals["across_same"].sum() + totals["across_other"].sum() == 2 * 8 * 8


def test_every_picture_has_a_row(data: Path, tmp_path: Path) -> None:
    """Which patches have a class depends on the grid; models of different grids can be compared."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            (tmp_path / kind / f"{i}.png").write_bytes((data / kind / f"{i}.png").read_bytes())
    stripes = np.tile((np.arange(96) // 12 % 3 + 1).astype(np.uint8), (64, 1))
    Image.fromarray(stripes).save(tmp_path / "labels/2.png")
    fine, coarse = (run(tmp_path, short_side=side) for side in (128, 32))
    assert fine.rows.names == coarse.rows.names
    lines = {line["name"]: line["columns"] for line in coarse.rows.lines()}
    assert (lines["2"], len(lines["0"]) > 0) == ([], True)
    found = compare(fine.rows, coarse.rows, measure, replicates=100)
    assert not np.isnan(found["auc"].value)


def test_rows_are_short(data: Path) -> None:
    """Some 4 kB of JSON at most."""
    lines = [json.dumps(line, separators=(",", ":")) for line in run(data).rows.lines()]
    assert 1_000 < max(map(len, lines)) < 4_500


def test_nothing_labelled_is_nothing_to_measure(data: Path, tmp_path: Path) -> None:
    """One sentence, not a report without numbers."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "4.png").write_bytes((data / kind / "4.png").read_bytes())
    with pytest.raises(InputError, match="no patch has a label that counts"):
        run(tmp_path)


def test_a_seed_draws_again(data: Path) -> None:
    """The same groups and the same patches, and others with another seed."""
    one, again, other = (run(data, drawn=8, seed=seed) for seed in (0, 0, 1))
    assert one.rows.names == again.rows.names
    totals = [report.rows.totals()["across_same"] for report in (one, again, other)]
    np.testing.assert_array_equal(totals[0], totals[1])
    assert (totals[0] != totals[2]).any()


def test_a_single_picture_has_no_pairs_across(data: Path) -> None:
    """And so no such score."""
    report = run(data, limit=1)
    assert np.isnan(report.scores["across_auc"].value)
    assert not np.isnan(report.scores["auc"].value)


@pytest.mark.parametrize(
    "settings", [{"group": 1}, {"drawn": 0}], ids=lambda settings: next(iter(settings))
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
    same, other = np.random.default_rng(0).integers(0, 9, (2, BINS)).astype(float)
    stack: Callable[[np.ndarray], np.ndarray] = lambda x: np.stack([x, 3 * x])  # noqa: E731
    totals = {"same": stack(same), "other": stack(other)}
    totals |= {"across_same": stack(other), "across_other": stack(same)}
    scores = measure(totals | {"image": np.array([[1.5, 2], [0, 0]])})
    area = auc_of_histograms(same, other)
    np.testing.assert_allclose(scores["auc"], [area, area])
    np.testing.assert_allclose(scores["across_auc"], [1 - area, 1 - area])
    np.testing.assert_allclose(scores["image_auc"], [0.75, np.nan])

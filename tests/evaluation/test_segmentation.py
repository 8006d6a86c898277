"""mIoU and accuracies of a segmenter."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atas_deploy import Segmenter
from atas_deploy.core.errors import AnnotationError, ConfigError
from atas_deploy.evaluation.label_folder import LabelFolder
from atas_deploy.evaluation.segmentation import SegmentationTask, measure
from atas_deploy.evaluation.task import Report, run_task
from atas_deploy.evaluation.truth import PanopticTruth
from atas_deploy.media.annotations import PanopticFile

CLASSES = "sky,building|temple,tree"
SIZES = [(48, 64), (64, 40), (56, 56)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of coloured areas with labels 0 to 3 and 255, unrelated to what the model finds."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for i, size in enumerate(SIZES):
        generator = np.random.default_rng(i)
        image = np.kron(generator.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1)))
        values = [value for value in (0, 1, 2, 3, 255) if value != i + 1]  # each lacks a class
        labels = np.kron(generator.choice(values, (8, 8)), np.ones((8, 8)))
        height, width = size
        Image.fromarray(image[:height, :width].astype(np.uint8)).save(folder / f"images/{i}.png")
        Image.fromarray(labels[:height, :width].astype(np.uint8)).save(folder / f"labels/{i}.png")
    return folder


def open_segmenter(**settings: Any) -> Segmenter:
    """A fast one."""
    settings = {"classes": CLASSES, "short_side": 64, "cache": False} | settings
    return Segmenter(**settings)


def run(data: Path, segmenter: Segmenter, **settings: Any) -> Report:
    """The report, with a short bootstrap."""
    truth = LabelFolder(data / "images", data / "labels", **settings)
    return run_task(SegmentationTask(segmenter, truth), replicates=100)


def pairs(data: Path, segmenter: Segmenter) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels as they are in the files, and as the segmenter finds them."""
    for i in range(len(SIZES)):
        truth = np.asarray(Image.open(data / f"labels/{i}.png")).astype(int)
        yield truth, segmenter(data / f"images/{i}.png").labels.astype(int)


def loop(pairs: Iterator[tuple[np.ndarray, np.ndarray]], values: list[int]) -> dict[str, float]:
    """The definition, pixel by pixel and class by class, in plain Python."""
    truth = [t for pair in pairs for t in zip(pair[0].ravel(), pair[1].ravel(), strict=True)]
    counted = [(int(t), int(p)) for t, p in truth if t in values]
    ious, known, accuracies = [], [], []
    for value in values:
        both = sum(t == value == p for t, p in counted)
        either = sum(value in (t, p) for t, p in counted)
        true = sum(t == value for t, _ in counted)
        if either:
            ious.append(both / either)
        if true:
            known.append(both / either)
            accuracies.append(both / true)
    return {
        "miou": sum(ious) / len(ious),
        "miou_in_truth": sum(known) / len(known),
        "macc": sum(accuracies) / len(accuracies),
        "aacc": sum(t == p for t, p in counted) / len(counted),
    }


def values(report: Report, prefix: str = "") -> dict[str, float]:
    """The scores of a vocabulary."""
    names = ("miou", "miou_in_truth", "macc", "aacc")
    return {name: report.scores[prefix + name].value for name in names}


@pytest.mark.parametrize(
    ("background", "classes"), [("none", [1, 2, 3]), ("road,wall", [0, 1, 2, 3])]
)
def test_scores_equal_a_loop(data: Path, background: str, classes: list[int]) -> None:
    """Without background label 0 does not count, with it it is a class of its own."""
    report = run(data, open_segmenter(background=background))
    expected = loop(pairs(data, open_segmenter(background=background)), classes)
    assert values(report) == pytest.approx(expected, abs=1e-12)
    assert report.facts["background_counts"] == (0 in classes)
    assert len(report.table) == len(classes)


def test_scores_equal_torchmetrics(data: Path) -> None:
    """Jaccard index with an ignored label, of all classes at once."""
    import torch
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    settings = {"num_classes": 4, "ignore_index": 255}
    jaccard = MulticlassJaccardIndex(**settings, average="none")
    accuracy = MulticlassAccuracy(**settings, average="micro")
    segmenter = open_segmenter(background="road,wall")
    for truth, found in pairs(data, segmenter):
        jaccard.update(torch.tensor(found), torch.tensor(truth))
        accuracy.update(torch.tensor(found), torch.tensor(truth))
    report = run(data, segmenter)
    ours = [row["iou"] for row in report.table]
    np.testing.assert_allclose(ours, jaccard.compute().numpy(), atol=1e-6)
    assert report.scores["aacc"].value == pytest.approx(float(accuracy.compute()), abs=1e-6)


def test_present_classes_compete_alone(data: Path) -> None:
    """Each picture by a segmenter of its own, with the classes in its truth only."""
    report = run(data, open_segmenter(background="none"))
    found = []
    for i in range(len(SIZES)):
        truth = np.asarray(Image.open(data / f"labels/{i}.png")).astype(int)
        present = [v for v in (1, 2, 3) if v != i + 1]
        words = [CLASSES.split(",")[v - 1] for v in present]
        labels = open_segmenter(classes=words, background="none")(data / f"images/{i}.png").labels
        found.append((truth, np.array([0, *present])[labels.astype(int)]))
    assert values(report, "present_") == pytest.approx(loop(iter(found), [1, 2, 3]), abs=1e-12)
    assert report.scores["present_aacc"].value > report.scores["aacc"].value


def write_one(folder: Path, labels: np.ndarray) -> Path:
    """A data set of one picture."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    image = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3), np.uint8)
    Image.fromarray(image).save(folder / "images/x.png")
    Image.fromarray(labels).save(folder / "labels/x.png")
    return folder


def test_a_picture_of_one_class_is_that_class(tmp_path: Path) -> None:
    """Among those present nothing competes with it."""
    data = write_one(tmp_path, np.full((32, 32), 2, np.uint8))
    report = run(data, open_segmenter(background="none"))
    assert values(report, "present_") == dict.fromkeys(values(report), 1.0)
    row = report.table[1]
    assert (row["class"], row["pixels"], row["images"]) == ("building", 1024, 1)
    assert np.isnan(report.table[0]["accuracy"])


def test_background_competes_with_the_present_class(tmp_path: Path) -> None:
    """If it has words; a picture of background only is all background."""
    data = write_one(tmp_path, np.zeros((32, 32), np.uint8))
    report = run(data, open_segmenter(background="road,wall"))
    assert report.scores["present_aacc"].value == 1
    assert report.table[0]["class"] == "background"


def test_pictures_without_a_pixel_that_counts(data: Path, tmp_path: Path) -> None:
    """Add no row, and are told."""
    folder = write_one(tmp_path, np.full((32, 32), 255, np.uint8))
    for kind in ("images", "labels"):
        (folder / kind / "0.png").write_bytes((data / kind / "0.png").read_bytes())
    report = run(folder, open_segmenter(background="none"))
    assert report.rows.names == ["0"]
    assert report.facts["pictures_without_counted_pixels"] == 1


def test_background_found_where_it_is_no_class(data: Path) -> None:
    """Misses the true class, and is no class's prediction: as mmsegmentation counts it."""
    segmenter = open_segmenter(background="road,wall")
    report = run(data, segmenter, ignore=(0, 255))
    expected = loop(pairs(data, open_segmenter(background="road,wall")), [1, 2, 3])
    assert values(report) == pytest.approx(expected, abs=1e-12)


def test_a_threshold_makes_background_a_class(data: Path) -> None:
    """Pixels below it are background."""
    report = run(data, open_segmenter(background="none", threshold=0.5))
    assert report.table[0]["class"] == "background"
    assert report.table[0]["pixels"] > 0


def test_facts_say_what_scores_depend_on(data: Path) -> None:
    """The hash of the names is that of the list given, not of the last picture's."""
    segmenter = open_segmenter(preset="naclip", background="none", templates="none")
    expected = segmenter.vocabulary.hash
    facts = run(data, segmenter).facts
    assert facts["names_hash"] == expected
    assert (facts["preset"], facts["preset_row"], facts["templates"]) == ("naclip", "", "none")
    assert (facts["logit_scale"], facts["first_label"], facts["refine"]) == (40, 1, "pamr")
    assert facts["windows"] == {"merge": "pixels", "side": 224, "stride": 112}


def test_labels_of_another_size(tmp_path: Path) -> None:
    """End the run with one sentence."""
    data = write_one(tmp_path, np.ones((32, 32), np.uint8))
    Image.fromarray(np.ones((32, 31), np.uint8)).save(data / "labels/x.png")
    with pytest.raises(AnnotationError, match=r"x\.png are 32 x 31 pixels"):
        run(data, open_segmenter(background="none"))


def test_measure_of_replicates_by_hand() -> None:
    """Two replicates of two classes, one of which the second replicate lacks."""
    totals = {
        "truth": np.array([[4.0, 6], [4, 0]]),
        "hits_all": np.array([[2.0, 3], [2, 0]]),
        "predicted_all": np.array([[4.0, 3], [2, 0]]),
        "hits_present": np.array([[4.0, 6], [4, 0]]),
        "predicted_present": np.array([[4.0, 6], [4, 1]]),
    }
    scores = measure(totals)
    np.testing.assert_allclose(scores["miou"], [(1 / 3 + 1 / 2) / 2, 1 / 2])
    np.testing.assert_allclose(scores["macc"], [0.5, 0.5])
    np.testing.assert_allclose(scores["aacc"], [0.5, 0.5])
    np.testing.assert_allclose(scores["present_miou"], [1, 0.5])
    np.testing.assert_allclose(scores["present_miou_in_truth"], [1, 1])


def test_equals_the_benchmark(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts on real pictures, among 133 classes and those present, are those of the benchmark."""
    benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
    monkeypatch.setattr(sys, "path", [str(benchmarks), *sys.path])
    from readouts import count_image

    folder = shared_data / "coco_panoptic_100"
    truth = PanopticTruth(PanopticFile.open(folder / "panoptic.json"), folder / "images", limit=3)
    segmenter = open_segmenter(classes=list(truth.class_names or ()), background="none")
    report = run_task(SegmentationTask(segmenter, truth), replicates=100)
    unit = {"short_side": 64, "window": "none", "stride": None}
    matrices = [
        count_image((segmenter.bundle.path, unit, example.image, False))["none"]
        for example in truth
    ]
    totals = report.rows.totals()
    for kind, column in {"all": "133", "present": "present"}.items():
        matrix = sum(found[column] for found in matrices)
        np.testing.assert_array_equal(totals[f"hits_{kind}"], np.diag(matrix))
        np.testing.assert_array_equal(totals[f"predicted_{kind}"], matrix.sum(0))
        np.testing.assert_array_equal(totals["truth"], matrix.sum(1))


def test_a_class_for_each_category(shared_data: Path) -> None:
    """A list of another length is refused before anything is encoded."""
    folder = shared_data / "coco_panoptic_100"
    truth = PanopticTruth(PanopticFile.open(folder / "panoptic.json"), folder / "images")
    with pytest.raises(ConfigError, match="3 classes for data with 133"):
        SegmentationTask(open_segmenter(), truth)

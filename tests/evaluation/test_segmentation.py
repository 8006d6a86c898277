"""mIoU and accuracies of a segmenter."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atas_deploy import Segmenter
from atas_deploy.core.errors import AnnotationError, ConfigError, InputError
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


@pytest.mark.parametrize("settings", [{"threshold": 0.45}, {"denoise": 0.9}])
def test_background_without_words(data: Path, settings: dict[str, float]) -> None:
    """Among all classes, pixels below the threshold are background, a class with label 0."""
    segmenter = open_segmenter(background="none", **settings)
    found = list(pairs(data, segmenter))
    assert any((labels == 0).any() for _, labels in found)
    assert any((labels > 0).any() for _, labels in found)
    report = run(data, segmenter)
    assert values(report) == pytest.approx(loop(iter(found), [0, 1, 2, 3]), abs=1e-12)
    assert report.table[0]["class"] == "background"
    assert report.table[0]["pixels"] == sum((truth == 0).sum() for truth, _ in found)


@pytest.mark.parametrize("settings", [{"threshold": 0.9}, {"denoise": 0.9}])
def test_background_without_words_is_void_among_those_present(
    data: Path, settings: dict[str, float]
) -> None:
    """Nothing can be background there: the scores are those without threshold, of classes only."""
    plain = run(data, open_segmenter(background="none"))
    report = run(data, open_segmenter(background="none", **settings))
    assert values(report, "present_") == values(plain, "present_")
    assert values(report) != values(plain)
    assert np.isnan(report.table[0]["present_iou"])


def test_one_present_class_under_a_threshold(tmp_path: Path) -> None:
    """A class of two words, neither of them likely: the picture is that class all the same."""
    data = write_one(tmp_path, np.kron([[0, 2]], np.ones((32, 16))).astype(np.uint8))
    report = run(data, open_segmenter(background="none", threshold=0.99))
    assert values(report, "present_") == dict.fromkeys(values(report), 1.0)
    assert report.scores["aacc"].value < 1


def mmseg(pairs: Iterable[tuple[np.ndarray, np.ndarray]], values: list[int]) -> dict[str, float]:
    """The IoUMetric of mmsegmentation written out: areas by histograms, summed before divided.

    Pixels whose truth is not among the values are ignored; predictions that are not among them lie
    in no bin of the histogram.
    """
    edges = np.arange(min(values), max(values) + 2) - 0.5
    both, found, true = np.zeros((3, len(values)))
    for truth, labels in pairs:
        counted = np.isin(truth, values)
        t, p = truth[counted], labels[counted]
        both += np.histogram(p[p == t], edges)[0]
        found += np.histogram(p, edges)[0]
        true += np.histogram(t, edges)[0]
    with np.errstate(invalid="ignore"):
        each, accuracy = both / (true + found - both), both / true
    return {
        "miou": np.nanmean(each),
        "miou_in_truth": np.nanmean(each[true > 0]),
        "macc": np.nanmean(accuracy),
        "aacc": both.sum() / true.sum(),
    }


CASES = [
    ({"background": "none"}, (255,), [1, 2, 3]),
    ({"background": "road,wall"}, (255,), [0, 1, 2, 3]),
    ({"background": "road,wall"}, (0, 255), [1, 2, 3]),  # background is found, but is no class
    ({"background": "none", "threshold": 0.45}, (0, 255), [1, 2, 3]),
    ({"background": "none"}, (1, 255), [1, 2, 3]),  # a class without a true pixel
]


@pytest.mark.parametrize(("settings", "ignore", "classes"), CASES)
def test_scores_equal_the_formulas_of_mmsegmentation(
    data: Path, settings: dict[str, Any], ignore: tuple[int, ...], classes: list[int]
) -> None:
    """Among all classes."""
    report = run(data, open_segmenter(**settings), ignore=ignore)
    found = (
        (np.where(np.isin(truth, ignore), 255, truth), labels)
        for truth, labels in pairs(data, open_segmenter(**settings))
    )
    assert values(report) == pytest.approx(mmseg(found, classes), abs=1e-12)


@pytest.mark.parametrize(("settings", "ignore", "classes"), CASES[:3])
def test_scores_of_present_classes_equal_the_formulas(
    data: Path, settings: dict[str, Any], ignore: tuple[int, ...], classes: list[int]
) -> None:
    """Each picture by a segmenter of its own classes, beside the background's words."""
    report = run(data, open_segmenter(**settings), ignore=ignore)
    found = []
    for i in range(len(SIZES)):
        truth = np.asarray(Image.open(data / f"labels/{i}.png")).astype(int)
        present = [v for v in (1, 2, 3) if v != i + 1]
        words = [CLASSES.split(",")[v - 1] for v in present]
        own = open_segmenter(**settings | {"classes": words})
        labels = own(data / f"images/{i}.png").labels.astype(int)
        found.append(
            (np.where(np.isin(truth, ignore), 255, truth), np.array([0, *present])[labels])
        )
    assert values(report, "present_") == pytest.approx(mmseg(found, classes), abs=1e-12)


def test_a_list_of_one_class(data: Path) -> None:
    """Beside the background's words; other labels are ignored."""
    settings = {"classes": "sky", "background": "road,wall"}
    report = run(data, open_segmenter(**settings), ignore=(2, 3, 255))
    expected = loop(pairs(data, open_segmenter(**settings)), [0, 1])
    assert values(report) == pytest.approx(expected, abs=1e-12)
    assert [row["class"] for row in report.table] == ["background", "sky"]


def test_a_class_that_is_nowhere_has_no_score(tmp_path: Path) -> None:
    """Neither true nor found; it is left out of the means."""
    data = write_one(tmp_path, np.full((32, 32), 1, np.uint8))
    segmenter = open_segmenter(classes="sky,building,tree,water,grass", background="none")
    found = segmenter(data / "images/x.png").labels
    report = run(data, segmenter)
    missing = [i for i in range(2, 6) if not (found == i).any()]
    assert missing
    assert all(np.isnan(report.table[i - 1]["iou"]) for i in missing)
    share = (found == 1).mean()
    assert report.scores["miou"].value == pytest.approx(share / (5 - len(missing)))


def test_a_run_leaves_the_segmenter_as_it_was(data: Path) -> None:
    """Classes and rule; a second run on it gives the same report."""
    segmenter = open_segmenter(classes="@voc21", preset="sclip", refine="none", templates="none")
    settings = {"ignore": (*range(4, 21), 255)}
    before = segmenter.vocabulary
    first, second = (run(data, segmenter, **settings) for _ in range(2))
    assert segmenter.vocabulary is before
    assert before.rule == "voc21:expanded"
    assert (first.facts, first.scores, str(first.table)) == (
        second.facts,
        second.scores,
        str(second.table),
    )


def test_a_run_that_fails_leaves_the_segmenter_as_it_was(data: Path, tmp_path: Path) -> None:
    """Here at the second of three pictures."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            (tmp_path / kind / f"{i}.png").write_bytes((data / kind / f"{i}.png").read_bytes())
    Image.fromarray(np.full((64, 40), 9, np.uint8)).save(tmp_path / "labels/1.png")
    segmenter = open_segmenter(background="none")
    before = segmenter.vocabulary
    with pytest.raises(AnnotationError, match="has the value 9"):
        run(tmp_path, segmenter)
    assert segmenter.vocabulary is before


def test_only_pictures_without_a_pixel_that_counts(tmp_path: Path) -> None:
    """Are nothing to measure."""
    folder = write_one(tmp_path, np.full((32, 32), 255, np.uint8))
    with pytest.raises(InputError, match="nothing to measure"):
        run(folder, open_segmenter(background="none"))


def test_pictures_left_out_are_counted_in_each_run(data: Path, tmp_path: Path) -> None:
    """Two runs of one task do not add up."""
    folder = write_one(tmp_path, np.full((32, 32), 255, np.uint8))
    for kind in ("images", "labels"):
        (folder / kind / "0.png").write_bytes((data / kind / "0.png").read_bytes())
    truth = LabelFolder(folder / "images", folder / "labels")
    task = SegmentationTask(open_segmenter(background="none"), truth)
    facts = [run_task(task, replicates=100).facts for _ in range(2)]
    assert [fact["pictures_without_counted_pixels"] for fact in facts] == [1, 1]


def test_facts_say_what_scores_depend_on(data: Path) -> None:
    """Words, preset, data and windows."""
    segmenter = open_segmenter(preset="naclip", background="none", templates="none")
    expected = segmenter.vocabulary.hash
    truth = LabelFolder(data / "images", data / "labels")
    facts = SegmentationTask(segmenter, truth).facts()
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
        "truth_all": np.array([[4.0, 6], [4, 0]]),
        "truth_present": np.array([[4.0, 6], [4, 0]]),
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


def test_real_pictures_equal_a_loop(shared_data: Path) -> None:
    """Three pictures, 133 classes: segments read by hand, one segmenter for each class list."""
    folder = shared_data / "coco_panoptic_100"
    file = json.loads((folder / "panoptic.json").read_text())
    place = {category["id"]: i for i, category in enumerate(file["categories"], 1)}
    truth = PanopticTruth(PanopticFile.open(folder / "panoptic.json"), folder / "images", limit=3)
    names = list(truth.class_names or ())
    segmenter = open_segmenter(classes=names, background="none")
    report = run_task(SegmentationTask(segmenter, truth), replicates=100)
    sums = {kind: np.zeros((3, 134)) for kind in ("all", "present")}
    name_of = {image["id"]: image["file_name"] for image in file["images"]}
    entries = {name_of[entry["image_id"]]: entry for entry in file["annotations"]}
    for image in truth:
        entry = entries[image.name]
        rgb = np.asarray(Image.open(folder / "panoptic" / entry["file_name"])).astype(int)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
        labels = np.zeros(ids.shape, int)
        for segment in entry["segments_info"]:
            labels[ids == segment["id"]] = place[segment["category_id"]]
        present = [label for label in range(1, 134) if (labels == label).any()]
        among = open_segmenter(classes=[names[i - 1] for i in present], background="none")
        found = {
            "all": segmenter(image.image).labels.astype(int),
            "present": np.array([0, *present])[among(image.image).labels.astype(int)],
        }
        for kind, mask in found.items():
            for label in range(1, 134):
                true, predicted = labels == label, (mask == label) & (labels > 0)
                sums[kind][:, label] += [(true & predicted).sum(), predicted.sum(), true.sum()]
    totals = report.rows.totals()
    for kind, expected in sums.items():
        for row, what in zip(expected, ("hits", "predicted", "truth"), strict=True):
            np.testing.assert_array_equal(totals[f"{what}_{kind}"], row[1:])


def test_a_class_for_each_category(shared_data: Path) -> None:
    """A list of another length is refused before anything is encoded."""
    folder = shared_data / "coco_panoptic_100"
    truth = PanopticTruth(PanopticFile.open(folder / "panoptic.json"), folder / "images")
    with pytest.raises(ConfigError, match="3 classes for data with 133"):
        SegmentationTask(open_segmenter(), truth)

"""Regions: what counts, counts by hand, and runs against the classifier's own names."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.core.region import Region
from atas_deploy.core.regions import pool_masks
from atas_deploy.evaluation.region_data import RegionData
from atas_deploy.evaluation.regions import (
    KINDS,
    RegionsTask,
    class_cosines,
    count_hits,
    measure,
)
from atas_deploy.evaluation.task import run_task
from atas_deploy.runtime.encoders import Encoders
from atas_deploy.runtime.regions import RegionClassifier

WRITE = Callable[..., Path]
CATEGORIES = [
    ("dog", True),
    ("cat", True),
    ("car", True),
    ("boat", True),
    ("grass", False),
    ("sky-other-merged", False),
    ("wall-brick", False),
]
FAST: dict[str, Any] = {"short_side": 64, "cache": False, "templates": "none"}

SCORES = ("top1", "top5", "accuracy")


def scene() -> tuple[np.ndarray, list[tuple[int, int, bool]]]:
    """Sky, grass, a dog, a cat, a crowd of cars, void; dogs of 3 x 21 pixels and of 4 x 16."""
    ids = np.full((64, 96), 1, int)
    ids[32:] = 2
    ids[10:40, 10:40] = 3
    ids[20:60, 50:80] = 4
    ids[40:60, 0:20] = 5
    ids[:, 90:] = 0
    ids[0:21, 60:63] = 6
    ids[0:16, 70:74] = 7
    listed = [(1, 5, False), (2, 4, False), (3, 0, False), (4, 1, False)]
    return ids, [*listed, (5, 2, True), (6, 0, False), (7, 0, False)]


@pytest.fixture(scope="module")
def data(write_panoptic: WRITE, tmp_path_factory: pytest.TempPathFactory) -> RegionData:
    """The scene, its mirror image, and a picture of sky alone."""
    folder = tmp_path_factory.mktemp("scenes")
    ids, segments = scene()
    alone = np.ones((64, 96), int), [(1, 5, False)]
    pictures = {"a": (ids, segments), "b": (ids[:, ::-1], segments), "c": alone}
    file = write_panoptic(folder, CATEGORIES, pictures)
    return RegionData(folder / "images", panoptic=file)


@pytest.fixture(scope="module")
def classifier(data: RegionData) -> RegionClassifier:
    """The embedded model with the words of the scene."""
    return RegionClassifier(classes=data.words(), **FAST)


def test_crowds_small_boxes_and_void_do_not_count(data: RegionData) -> None:
    """63 pixels are too few, 64 are enough, however thin; things and stuff lie apart."""
    picture = next(iter(data))
    assert [region.source_id for region in picture.things] == [3, 4, 7]
    assert [region.source_id for region in picture.stuff] == [1, 2]
    assert (picture.sized, picture.crowd) == (1, 1)
    assert picture.name == "a.png"


def test_boxes_over_1024_pixels_wide_and_high_do_not_count(
    write_panoptic: WRITE, tmp_path: Path
) -> None:
    """1024 x 1024 do; and all do if asked for, but for crowds."""
    ids = np.ones((1024, 1026), int)
    ids[:, 1024:] = 2
    large = np.ones((1024, 1025), int)
    segments = [(1, 0, False), (2, 2, True)]
    pictures = {"a": (ids, segments), "b": (large, segments[:1])}
    file = write_panoptic(tmp_path, CATEGORIES, pictures)
    for any_size, counts in ((False, [1, 0]), (True, [1, 1])):
        found = list(RegionData(tmp_path / "images", panoptic=file, any_size=any_size))
        assert [len(picture.things) for picture in found] == counts
        assert [picture.sized for picture in found] == [0, 1 - counts[1]]


def test_hits_are_counted_by_class() -> None:
    """Five regions of three classes out of seven; a tie with the right class is no hit."""
    scores = np.zeros((5, 7))
    scores[0] = [9, 1, 2, 3, 4, 5, 6]  # class 0, first
    scores[1] = [5, 9, 0, 0, 0, 0, 0]  # class 0, second
    scores[2] = [0, 1, 2, 3, 4, 5, 6]  # class 1, sixth
    scores[3] = [7, 2, 3, 4, 5, 1, 1]  # class 1, fifth
    scores[4] = [0, 0, 0, 8, 8, 0, 0]  # class 3, as high as class 4
    found = count_hits("boxes", scores, np.array([0, 0, 1, 1, 3]))
    np.testing.assert_array_equal(found["boxes_regions"], [2, 2, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(found["boxes_top1"], [1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found["boxes_top5"], [2, 1, 0, 1, 0, 0, 0])


def test_no_region_counts_nothing() -> None:
    """A picture may have none of a kind."""
    found = count_hits("boxes", np.zeros((0, 3)), np.zeros(0, np.intp))
    assert all((sums == 0).all() and sums.shape == (3,) for sums in found.values())


def test_accuracy_is_the_mean_over_classes_present() -> None:
    """1 of 2 and 3 of 3; the third class is absent; the second replicate has nothing at all."""
    totals = {
        "crops_regions": np.array([[2.0, 3, 0], [0, 0, 0]]),
        "crops_top1": np.array([[1.0, 3, 0], [0, 0, 0]]),
        "crops_top5": np.array([[2.0, 3, 0], [0, 0, 0]]),
    }
    found = measure(totals)
    assert list(found) == ["crops_top1", "crops_top5", "crops_accuracy"]
    np.testing.assert_array_equal(found["crops_top1"], [0.75, np.nan])
    np.testing.assert_array_equal(found["crops_top5"], [1.0, np.nan])
    np.testing.assert_array_equal(found["crops_accuracy"], [0.8, np.nan])


def test_a_run_counts_the_names_of_the_classifier(
    data: RegionData, classifier: RegionClassifier
) -> None:
    """Each kind by itself, named by a classifier of that kind, counted in a dictionary."""
    report = run_task(RegionsTask(classifier, data))
    for kind in KINDS:
        for k in (1, 5):
            expected = count_by_names(kind, data, k)
            assert report.scores[f"{kind}_top{k}"].value == pytest.approx(expected)
    assert len(report.rows) == 3
    assert report.facts["regions_left_out"] == {"sized": 2, "crowd": 2}
    json.dumps(report.facts)


def count_by_names(kind: str, data: RegionData, k: int) -> float:
    """Mean class accuracy, by names only."""
    embed = {"crops": "crop", "both": "both"}.get(kind, "dense")
    classifier = RegionClassifier(classes=data.words(), embed=embed, **FAST)
    right: dict[str, list[bool]] = defaultdict(list)
    for picture in data:
        regions = list(picture.stuff if kind == "stuff_masks" else picture.things)
        if kind == "boxes":
            regions = [replace(region, rle=None) for region in regions]
        named = classifier.name(picture.image, regions, top=k)
        for index, region in enumerate(regions):
            own = data.words()[region.category or 0]
            right[own].append(own in [named.name(index, rank) for rank in range(k)])
    return float(np.mean([np.mean(found) for found in right.values()]))


def test_no_logit_scale_changes_a_count(data: RegionData, classifier: RegionClassifier) -> None:
    """Nor one at which all probabilities but the best round to 0."""
    steep = RegionClassifier(classes=data.words(), logit_scale=1e5, **FAST)
    rows, steep_rows = (run_task(RegionsTask(c, data)).rows for c in (classifier, steep))
    assert list(rows.lines()) == list(steep_rows.lines())
    assert rows.totals()["stuff_masks_top5"].sum() > 0


def test_a_class_is_as_similar_as_its_best_word(data: RegionData) -> None:
    """Cosines, whatever the logit scale."""
    classes = ["dog|puppy|hound", "cat", "car|lorry", "boat", "grass", "sky", "wall"]
    classifier = RegionClassifier(classes=classes, **FAST)
    vectors = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = Encoders(cache=False).texts("none")
    expected = [(vectors @ texts(words.split("|")).T).max(axis=1) for words in classes]
    found = class_cosines(classifier, vectors)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-6)


def test_the_table_has_the_classes_present(data: RegionData, classifier: RegionClassifier) -> None:
    """Car is a crowd only, and boat and wall are nowhere."""
    table = run_task(RegionsTask(classifier, data)).table
    assert {line["class"]: line["regions"] for line in table} == {
        "dog": 4,
        "cat": 2,
        "grass": 2,
        "sky": 3,
    }
    dog = table[0]
    assert dog["boxes_top1"] in (0, 0.25, 0.5, 0.75, 1)
    assert np.isnan(dog["stuff_masks_top1"])


def test_only_the_kinds_asked_for_are_measured(
    data: RegionData, classifier: RegionClassifier
) -> None:
    """They are as they are among all kinds."""
    every = run_task(RegionsTask(classifier, data))
    some = run_task(RegionsTask(classifier, data, kinds=["both", "thing_masks"]))
    assert list(some.scores) == [
        f"{kind}_{score}" for kind in ("thing_masks", "both") for score in SCORES
    ]
    assert all(every.scores[name] == score for name, score in some.scores.items())


@pytest.mark.parametrize("kinds", [["boxes", "nonsense"], []])
def test_unknown_kinds_are_refused(
    data: RegionData, classifier: RegionClassifier, kinds: list[str]
) -> None:
    """Those that there are get named."""
    with pytest.raises(ConfigError, match="expected some of boxes, thing_masks"):
        RegionsTask(classifier, data, kinds=kinds)


def test_a_classifier_of_other_classes_is_refused(data: RegionData) -> None:
    """And one with a background."""
    with pytest.raises(ConfigError, match="2 classes and 0 background words for 7"):
        RegionsTask(RegionClassifier(classes="dog,cat", **FAST), data)
    with pytest.raises(ConfigError, match="7 classes and 1 background words"):
        RegionsTask(RegionClassifier(classes=data.words(), background="road", **FAST), data)


def test_what_was_left_out_is_said_if_nothing_counts(write_panoptic: WRITE, tmp_path: Path) -> None:
    """A crowd, and two boxes that are too small."""
    ids = np.zeros((64, 64), int)
    ids[:30], ids[40:43, :3], ids[50:53, :3] = 1, 2, 3
    segments = [(1, 0, True), (2, 0, False), (3, 1, False)]
    file = write_panoptic(tmp_path, CATEGORIES, {"a": (ids, segments)})
    data = RegionData(tmp_path / "images", panoptic=file)
    task = RegionsTask(RegionClassifier(classes=data.words(), **FAST), data, kinds=["boxes"])
    with pytest.raises(InputError, match="2 are left out because of their size, 1 as crowds"):
        run_task(task)


def test_data_without_regions_are_refused(write_panoptic: WRITE, tmp_path: Path) -> None:
    """Void everywhere."""
    file = write_panoptic(tmp_path, CATEGORIES, {"a": (np.zeros((64, 64), int), [])})
    data = RegionData(tmp_path / "images", panoptic=file)
    task = RegionsTask(RegionClassifier(classes=data.words(), **FAST), data)
    with pytest.raises(InputError, match=r"panoptic\.json has no region that counts"):
        run_task(task)


def test_words_are_plain_names_or_a_list_in_their_order(data: RegionData) -> None:
    """A list must have a class for each category."""
    assert data.words() == ["dog", "cat", "car", "boat", "grass", "sky", "wall brick"]
    given = ["dog|puppy", "cat", "car", "boat|ship", "grass", "sky", "brick wall"]
    assert data.words(given) == given
    with pytest.raises(ConfigError, match="133 classes for the 7 categories"):
        data.words("@coco-panoptic")


def test_pictures_of_another_size_are_refused(write_panoptic: WRITE, tmp_path: Path) -> None:
    """Boxes would lie elsewhere."""
    ids, segments = scene()
    file = write_panoptic(tmp_path, CATEGORIES, {"a": (ids, segments)})
    Image.new("RGB", (48, 32)).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match="has 48 x 32 pixels, but 96 x 64"):
        next(iter(RegionData(tmp_path / "images", panoptic=file)))


def test_one_kind_of_annotations_is_needed(tmp_path: Path) -> None:
    """Not none, not both, and PNGs with panoptic ones only."""
    file = tmp_path / "a.json"
    for given in ({}, {"panoptic": file, "instances": file}):
        with pytest.raises(ConfigError, match="either --panoptic or --instances"):
            RegionData(tmp_path, **given)
    with pytest.raises(ConfigError, match="--pngs"):
        RegionData(tmp_path, instances=file, pngs=tmp_path)


def test_instances_have_things_that_may_overlap(tmp_path: Path) -> None:
    """Polygons over one another are regions of their own; boxes and masks both count."""
    Image.new("RGB", (96, 64), "green").save(tmp_path / "a.png")
    corners = [[5, 5, 60, 5, 60, 50, 5, 50], [30, 20, 90, 20, 90, 60, 30, 60]]
    annotations = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 10 + i,
            "segmentation": [points],
            "bbox": [points[0], points[1], points[2] - points[0], points[5] - points[1]],
            "iscrowd": 0,
        }
        for i, points in enumerate(corners)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 96}],
        "categories": [{"id": 10, "name": "dog"}, {"id": 11, "name": "cat"}],
        "annotations": annotations,
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    data = RegionData(tmp_path, instances=tmp_path / "instances.json")
    regions = next(iter(data)).things
    assert (regions[0].mask() & regions[1].mask()).sum() == 30 * 30
    report = run_task(RegionsTask(RegionClassifier(classes=data.words(), **FAST), data))
    totals = report.rows.totals()
    assert "stuff_masks_top1" not in report.scores
    for kind in ("boxes", "thing_masks", "crops", "both"):
        np.testing.assert_array_equal(totals[f"{kind}_regions"], [1, 1])


def test_annotations_that_pycocotools_made(tmp_path: Path) -> None:
    """Run lengths, plain and compressed, a crowd, overlaps and stuff: found and pooled by hand."""
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(tmp_path / "a.png")
    masks = np.zeros((5, 64, 96), bool)
    masks[0, 5:40, 5:50] = True
    masks[1, 20:60, 30:90] = True  # over the first
    masks[2, 0:30, 60:96] = True  # a crowd
    masks[3, 50:64] = True  # stuff
    masks[4, 0:7, 0:9] = True  # 63 pixels
    path = write_instances(tmp_path, masks, categories=[10, 11, 10, 12, 11], crowds=[2])
    data = RegionData(tmp_path, instances=path)
    (picture,) = data
    assert [[r.source_id for r in found] for found in (picture.things, picture.stuff)] == [
        [0, 1],
        [3],
    ]
    assert (picture.sized, picture.crowd) == (1, 1)
    coco = COCO(str(path))
    for region in (*picture.things, *picture.stuff):
        mask = coco.annToMask(coco.anns[region.source_id])
        np.testing.assert_array_equal(region.mask(), mask)
        np.testing.assert_array_equal(mask, masks[region.source_id])
    classifier = RegionClassifier(classes=data.words(), **FAST)
    totals = run_task(RegionsTask(classifier, data)).rows.totals()
    np.testing.assert_array_equal(totals["boxes_regions"], [1, 1, 0])
    np.testing.assert_array_equal(totals["stuff_masks_regions"], [0, 0, 1])
    dense = classifier.encoder(picture.image).dense
    best = (
        pool_masks(dense, masks[[0, 1, 3]]) @ Encoders(cache=False).texts("none")(data.words()).T
    ).argmax(1)
    hits = totals["thing_masks_top1"] + totals["stuff_masks_top1"]
    np.testing.assert_array_equal(hits, best == [0, 1, 2])


def write_instances(
    folder: Path, masks: np.ndarray, *, categories: list[int], crowds: list[int]
) -> Path:
    """Write masks (K, H, W) of a picture as pycocotools encodes them; crowds are uncompressed."""
    annotations: list[dict[str, Any]] = []
    for index, (mask, category) in enumerate(zip(masks, categories, strict=True)):
        code = rle.encode(np.asfortranarray(mask, np.uint8))
        box, area = rle.toBbox(code).tolist(), int(rle.area(code))
        code["counts"] = code["counts"].decode()
        if index in crowds:
            column = mask.ravel(order="F")
            edges = np.flatnonzero(np.diff(column)) + 1
            runs = np.diff([0, *edges, column.size]).tolist()
            code["counts"] = [0, *runs] if column[0] else runs
        annotations.append(
            {"id": index, "image_id": 1, "category_id": category, "segmentation": code}
            | {"bbox": box, "area": area, "iscrowd": int(index in crowds)}
        )
    names = [(10, "dog", 1), (11, "cat", 1), (12, "grass", 0)]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 96}],
        "categories": [{"id": i, "name": name, "isthing": thing} for i, name, thing in names],
        "annotations": annotations,
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_real_pictures_agree_with_scikit_learn(shared_data: Path) -> None:
    """Balanced accuracy of the best names of boxes, and of crops, on five pictures of COCO."""
    folder = shared_data / "coco_panoptic_100"
    data = RegionData(folder / "images", panoptic=folder / "panoptic.json", max_images=5)
    classifier = RegionClassifier(classes=data.words(), **FAST)
    report = run_task(RegionsTask(classifier, data, kinds=["boxes", "crops"]))
    truth: list[int] = []
    names: dict[str, list[int]] = {"boxes": [], "crops": []}
    for picture in data:
        regions = [Region(box=region.box) for region in picture.things]
        truth += [region.category or 0 for region in picture.things]
        dense = classifier.embed_dense(classifier.encoder(picture.image), regions)
        crops = classifier.embed_crops(picture.image, regions)
        for kind, embeddings in (("boxes", dense), ("crops", crops)):
            names[kind] += classifier.logits(embeddings).argmax(axis=1).tolist()
    for kind, best in names.items():
        expected = balanced_accuracy_score(truth, best)
        assert report.scores[f"{kind}_top1"].value == pytest.approx(expected)
        share = accuracy_score(truth, best)
        assert report.scores[f"{kind}_accuracy"].value == pytest.approx(share)

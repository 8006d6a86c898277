"""The zero-shot check on labelled pictures, before, during and after training."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from atas_deploy import Segmenter
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import EMBEDDED
from atas_deploy.core.errors import ConfigError, InputError
from atas_deploy.evaluation.bootstrap import Difference
from atas_deploy.evaluation.compare import Comparison
from atas_deploy.evaluation.label_folder import LabelFolder
from atas_deploy.evaluation.segmentation import SegmentationTask
from atas_deploy.evaluation.task import run_task
from atas_deploy.training.check import ZeroShotCheck, check_facts, open_labelled, to_sentence
from atas_deploy.training.checkpoint import LOG
from atas_deploy.training.loop import Hooks, LocalObjective, LoopSettings, run
from atas_deploy.training.schedule import ParameterGroup, parameter_groups

CLASSES = "sky,building|temple,tree"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of coloured areas with labels 0 to 3 and 255."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    generator = np.random.default_rng(0)
    for i in range(4):
        image = np.kron(generator.integers(0, 256, (4, 5, 3)), np.ones((16, 16, 1)))
        labels = np.kron(generator.choice([0, 1, 2, 3, 255], (4, 5)), np.ones((16, 16)))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"images/{i}.png")
        Image.fromarray(labels.astype(np.uint8)).save(folder / f"labels/{i}.png")
    return folder


@pytest.fixture
def clip(tiny_clip: ClipModel) -> ClipModel:
    """A model that takes small pictures."""
    return replace(tiny_clip, record={"short_side": 32})


def make_check(clip: ClipModel, data: Path, folder: Path, **settings: Any) -> ZeroShotCheck:
    """A check on the pictures with label maps."""
    truth = open_labelled(data / "images", labels=data / "labels")
    return ZeroShotCheck(clip, truth, **{"folder": folder, "classes": CLASSES, **settings})


def disturb(clip: ClipModel) -> None:
    """Train the image tower to something else."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        clip.model.visual.proj.copy_(torch.randn(32, 16, generator=generator))


def reports(folder: Path) -> list[str]:
    """Folders of the reports in a run's folder."""
    found = (path.parent for path in folder.rglob("report.json"))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def test_scores_are_those_of_eval_on_the_exported_bundle(data: Path, tmp_path: Path) -> None:
    """Of the embedded model, by ONNX Runtime and its own settings."""
    segmenter = Segmenter("atas-tiny", CLASSES, background="none")
    truth = LabelFolder(data / "images", data / "labels")
    expected = run_task(SegmentationTask(segmenter, truth), replicates=100).scores
    found = make_check(load_model(EMBEDDED / "atas-tiny"), data, tmp_path).start()
    assert found["check_miou"] == pytest.approx(expected["miou"].value, abs=2e-3)
    assert found["check_present_miou"] == pytest.approx(expected["present_miou"].value, abs=2e-3)


def test_start_and_latest_are_compared_image_by_image(
    clip: ClipModel, data: Path, tmp_path: Path
) -> None:
    """The difference of what was returned, on all pictures."""
    check = make_check(clip, data, tmp_path)
    start = check.start()
    disturb(clip)
    latest = check(7)
    assert latest != start
    (comparison,) = check.compare().values()
    found = comparison.differences["present_miou"]
    assert comparison.units == 4
    assert found.a == pytest.approx(start["check_present_miou"])
    assert found.b == pytest.approx(latest["check_present_miou"])
    assert found.low < found.value < found.high
    assert reports(tmp_path) == ["check/latest/sclip", "check/start/sclip"]
    assert "fingerprint" in comparison.facts  # of another model


def test_without_training_nothing_changes(clip: ClipModel, data: Path, tmp_path: Path) -> None:
    """Not in any score."""
    check = make_check(clip, data, tmp_path)
    assert check.start() == check()
    (comparison,) = check.compare().values()
    assert all(d.value == 0.0 for d in comparison.differences.values() if d.value == d.value)


class Counted:
    """Counts the pictures that a check measures."""

    def __init__(self) -> None:
        self.pictures = 0

    def __call__(self) -> None:
        """One more."""
        self.pictures += 1


def test_a_resumed_run_finds_its_start_again(clip: ClipModel, data: Path, tmp_path: Path) -> None:
    """By the same model, nothing is measured; and it is compared as before."""
    first = make_check(clip, data, tmp_path).start()
    counted = Counted()
    again = make_check(clip, data, tmp_path, advance=counted)
    assert again.start() == pytest.approx(first, abs=1e-6)
    assert counted.pictures == 0
    disturb(clip)
    again()
    assert counted.pictures == 4
    assert again.compare()["sclip"].units == 4


@pytest.mark.parametrize("change", ["model", "classes", "short_side", "pictures", "damage"])
def test_a_start_of_other_things_is_measured_anew(
    clip: ClipModel, data: Path, tmp_path: Path, change: str
) -> None:
    """It would not be comparable."""
    make_check(clip, data, tmp_path).start()
    counted = Counted()
    settings: dict[str, Any] = {"advance": counted}
    truth = open_labelled(data / "images", labels=data / "labels")
    if change == "model":
        disturb(clip)
    elif change == "classes":
        settings["classes"] = "sky,house,tree"
    elif change == "short_side":
        settings["short_side"] = 48
    elif change == "pictures":
        truth = open_labelled(data / "images", labels=data / "labels", max_images=3)
    else:
        (tmp_path / "check/start/sclip/report.json").write_text("{")
    check = ZeroShotCheck(clip, truth, **{"classes": CLASSES, "folder": tmp_path, **settings})
    check.start()
    assert counted.pictures == len(truth)
    check()
    assert check.compare()["sclip"].units == len(truth)


def test_other_weights_are_measured_and_the_models_come_back(
    clip: ClipModel, data: Path, tmp_path: Path
) -> None:
    """Those of the start, while the model has been trained to something else."""
    before = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    check = make_check(clip, data, tmp_path, weights=lambda: before)
    start = check.start()
    disturb(clip)
    trained = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    assert check() == start
    assert all(torch.equal(trained[n], t) for n, t in clip.model.state_dict().items())
    assert not torch.equal(trained["visual.proj"], before["visual.proj"])


def test_each_readout_has_its_scores(clip: ClipModel, data: Path, tmp_path: Path) -> None:
    """By name, and as each has them alone."""
    both = make_check(clip, data, tmp_path / "both", readouts=["vanilla", "maskclip"]).start()
    assert list(both) == [
        "check_miou_vanilla",
        "check_present_miou_vanilla",
        "check_miou_maskclip",
        "check_present_miou_maskclip",
    ]
    alone = make_check(clip, data, tmp_path / "alone", readouts=["maskclip"]).start()
    assert both["check_miou_maskclip"] == alone["check_miou"]
    assert reports(tmp_path / "both") == ["check/start/maskclip", "check/start/vanilla"]


def test_the_readout_is_the_models_own(clip: ClipModel, data: Path, tmp_path: Path) -> None:
    """As its record says."""
    check = make_check(replace(clip, record={"readout": "naclip"}), data, tmp_path)
    assert check.readouts == ("naclip",)


def test_panoptic_data_bring_their_class_names(
    clip: ClipModel, tmp_path: Path, write_panoptic: Callable[..., Path]
) -> None:
    """In the words of people."""
    ids = np.kron(np.array([[1, 2], [2, 1]]), np.ones((16, 16), int))
    pictures = {f"{i}": (ids, [(1, 0, False), (2, 1, False)]) for i in range(2)}
    categories = [("wall-other-merged", False), ("dog", True)]
    file = write_panoptic(tmp_path / "data", categories, pictures)
    truth = open_labelled(tmp_path / "data/images", panoptic=file, max_images=1)
    check = ZeroShotCheck(clip, truth, folder=tmp_path)
    check.start()
    report = json.loads((tmp_path / "check/start/sclip/report.json").read_text())
    assert [row["class"] for row in report["classes"]] == ["wall", "dog"]
    assert report["units"] == 1


def test_a_list_with_background_brings_it(clip: ClipModel, data: Path, tmp_path: Path) -> None:
    """Any other list has none; label 0 does not count then."""
    names = tmp_path / "names.toml"
    listed = [f'{{name = "{name}"}}' for name in ("sky", "building", "tree")]
    names.write_text(f'classes = [{", ".join(listed)}]\nbackground = ["wall"]\n')
    for classes, expected in (("sky,building,tree", False), (f"@{names}", True)):
        make_check(clip, data, tmp_path, classes=classes).start()
        report = json.loads((tmp_path / "check/start/sclip/report.json").read_text())
        assert report["facts"]["background_counts"] is expected


def test_data_without_class_names_need_words(clip: ClipModel, data: Path, tmp_path: Path) -> None:
    """The option is named."""
    with pytest.raises(ConfigError, match="--check-classes"):
        make_check(clip, data, tmp_path, classes=None)


def test_too_few_classes_are_found_at_the_start(
    clip: ClipModel, data: Path, tmp_path: Path
) -> None:
    """Not after hours of training."""
    with pytest.raises(InputError, match="has the value 3"):
        make_check(clip, data, tmp_path, classes="sky,tree").start()


@pytest.mark.parametrize("labels", [{}, {"labels": Path("a"), "panoptic": Path("b")}])
def test_one_kind_of_labels_is_needed(labels: dict[str, Path]) -> None:
    """Neither and both are refused."""
    with pytest.raises(ConfigError, match="give one of the two"):
        open_labelled(Path("images"), **labels)


def test_a_start_that_was_not_measured_is_named(
    clip: ClipModel, data: Path, tmp_path: Path
) -> None:
    """There is nothing to compare with."""
    check = make_check(clip, data, tmp_path)
    check()
    with pytest.raises(InputError, match="holds no evaluation"):
        check.compare()


def stored_words(cache: Path) -> int:
    """Text features on disk."""
    with closing(sqlite3.connect(cache / "text-features.sqlite3")) as connection:
        count: int = connection.execute("SELECT count(*) FROM features").fetchone()[0]
    return count


def test_text_towers_in_training_leave_nothing_on_disk(
    clip: ClipModel, data: Path, tmp_path: Path, own_cache: Path
) -> None:
    """The start's features are kept, for it is started from again; a later one's are used once."""
    check = make_check(clip, data, tmp_path)
    check.start()
    kept = stored_words(own_cache)
    with torch.no_grad():
        clip.model.ln_final.weight.add_(0.5)
    check()
    assert stored_words(own_cache) == kept > 0


class Drift(LocalObjective):
    """Moves the image tower's projection."""

    def __init__(self, clip: ClipModel) -> None:
        self.model = clip.model

    def groups(self) -> list[ParameterGroup]:
        """All of it."""
        return parameter_groups(self.model.named_parameters(), weight_decay=0.0, layer_decay=1.0)

    def losses(self, step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """A sum of the projection's elements, each with a sign of its own."""
        signs = torch.tensor([1.0, -1.0] * 8)
        return {"loss": (self.model.visual.proj * signs).sum()}


def drift(clip: ClipModel, folder: Path, hooks: Hooks) -> list[dict[str, Any]]:
    """Train for four steps; the rows of the log."""
    settings = LoopSettings(steps=4, learning_rate=0.05, log_every=1, check_every=2)
    run(Drift(clip), settings, folder=folder, hooks=hooks)
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def test_a_check_does_not_change_training(clip: ClipModel, data: Path, tmp_path: Path) -> None:
    """Every second row has its values, and the weights become what they do without."""
    state = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    drift(clip, tmp_path / "without", Hooks())
    expected = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    clip.model.load_state_dict(state)
    check = make_check(clip, data, tmp_path / "with")
    check.start()
    rows = drift(clip, tmp_path / "with", Hooks(on_check=check))
    assert ["check_present_miou" in row for row in rows] == [False, True, False, True]
    assert all(torch.equal(expected[n], t) for n, t in clip.model.state_dict().items())
    (comparison,) = check.compare().values()
    assert rows[-1]["check_miou"] == pytest.approx(comparison.differences["miou"].b)


def difference(a: float, b: float, low: float, high: float) -> Comparison:
    """A comparison of present-class mIoU."""
    found = {"present_miou": Difference(a, b, b - a, low, high, 0.001)}
    return Comparison("segmentation", 100, found, {"model": ("a", "b")}, 1000, 0)


def test_the_sentence_says_by_how_much() -> None:
    """In percent, with the interval and the number of images."""
    gain = to_sentence(difference(0.143, 0.190, 0.031, 0.062))
    assert gain == "mIoU among present classes 14.3 -> 19.0, +4.7 (3.1 to 6.2), on 100 images"
    loss = to_sentence(difference(0.190, 0.143, -0.062, 0.01))
    assert loss == "mIoU among present classes 19.0 -> 14.3, -4.7 (-6.2 to 1.0), on 100 images"


def test_one_image_has_no_interval() -> None:
    """It says nothing of others."""
    one = replace(difference(0.1, 0.2, float("nan"), float("nan")), units=1)
    assert to_sentence(one) == "mIoU among present classes 10.0 -> 20.0, +10.0, on 1 image"


def test_facts_are_json(clip: ClipModel, data: Path, tmp_path: Path) -> None:
    """With the step, and every score's difference and interval."""
    check = make_check(clip, data, tmp_path)
    check.start()
    check()
    facts = json.loads(json.dumps(check_facts(check.compare(), step=7), allow_nan=False))
    assert (facts["sclip"]["step"], facts["sclip"]["units"]) == (7, 4)
    assert {"a", "b", "value", "low", "high", "p"} == facts["sclip"]["differences"]["miou"].keys()
    assert facts["sclip"]["confidence"] == 0.95

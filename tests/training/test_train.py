"""A training run from data to model folder."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.checkpoint import checkpoint

from atas_deploy.clip import vit
from atas_deploy.clip.vit import DenseViT
from atas_deploy.clip.weights import MODEL_WEIGHTS, load_model
from atas_deploy.core.errors import AtasError, CheckpointError, ConfigError, OutputError
from atas_deploy.training.checkpoint import CHECKPOINT, LOG, load_checkpoint
from atas_deploy.training.config import RUN_FILE
from atas_deploy.training.loop import Hooks
from atas_deploy.training.methods import open_data
from atas_deploy.training.model_folder import ModelFolder
from atas_deploy.training.run_folder import settle
from atas_deploy.training.start_model import open_start
from atas_deploy.training.train import TrainOutcome, loop_settings, train

METHODS = ("atas", "clipself", "contrastive")
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def said(start: Path, photo_folder: Path, captions_file: Path) -> dict[str, dict[str, Any]]:
    """Four steps on the test data, by method."""
    shared = {"images": (str(photo_folder),), "model": str(start), "max_steps": 4, "lr": 1e-3}
    shared |= {"batch_size": 4, "log_every": 1}
    return {
        "atas": shared | {"size": 64, "grids": (2,)},
        "clipself": shared | {"method": "clipself", "size": 64, "max_grid": 2},
        "contrastive": shared | {"method": "contrastive", "captions": captions_file},
    }


@pytest.fixture
def labelled(photo_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Options of a check on the first three pictures."""
    labels = tmp_path / "labels"
    labels.mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 48), 1 + i, np.uint8)).save(labels / f"{i:02d}.png")
    classes = {"check_classes": "red,green,blue"}
    return {"check_images": photo_folder, "check_labels": labels, **classes}


def go(said: dict[str, Any], folder: Path, *, hooks: Hooks | None = None) -> TrainOutcome:
    """Train in a folder, or go on there."""
    resume = (folder / "checkpoint.pt").exists()
    out, run = settle(said if not resume else {}, config=None, out=folder, resume=resume)
    return train(run, folder=out, resume=resume, hooks=hooks)


def weights(folder: Path) -> torch.Tensor:
    """All weights of a model folder as one vector."""
    return torch.cat([t.flatten() for _, t in sorted(load_file(folder / MODEL_WEIGHTS).items())])


def record(folder: Path) -> dict[str, Any]:
    """Content of training.json."""
    content: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return content


@every_method
def test_a_run_leaves_a_model_that_open_clip_loads(
    said: dict[str, Any], start: Path, tmp_path: Path, method: str
) -> None:
    """Plain open_clip gives the same weights as our loader, and they are not those of the start."""
    outcome = go(said[method], tmp_path / "run")
    theirs = open_clip.create_model(f"local-dir:{outcome.folder}").state_dict()
    ours = load_model(outcome.folder).model.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert not torch.equal(weights(outcome.folder), weights(start))


@pytest.mark.parametrize("method", ["atas", "clipself"])
def test_distillation_leaves_the_text_tower_alone(
    said: dict[str, Any], start: Path, tmp_path: Path, method: str
) -> None:
    """Words keep their meaning: every tensor outside the image tower is that of the start."""
    go(said[method], tmp_path / "run")
    before, after = (load_file(folder / MODEL_WEIGHTS) for folder in (start, tmp_path / "run"))
    assert all(torch.equal(after[n], t) for n, t in before.items() if not n.startswith("visual."))


@every_method
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    said: dict[str, Any], tmp_path: Path, method: str
) -> None:
    """It goes on by its folder alone: options, data, weights, to the last bit."""

    class KilledError(Exception):
        pass

    def kill(step: int) -> None:
        raise KilledError

    given = said[method] | {"save_every": 2}
    whole = go(given, tmp_path / "whole")
    with pytest.raises(KilledError):
        go(given, tmp_path / "parts", hooks=Hooks(on_save=kill))
    assert load_checkpoint(tmp_path / "parts")["step"] == 2
    outcome = go({}, tmp_path / "parts")
    assert outcome.step == whole.step == 4
    assert torch.equal(weights(outcome.folder), weights(whole.folder))


def test_the_run_file_gives_the_run_again(said: dict[str, Any], tmp_path: Path) -> None:
    """Fed back by --config it trains the same weights; the file of the second run is the same."""
    first, again = tmp_path / "first", tmp_path / "again"
    go(said["clipself"], first)
    out, run = settle({}, config=first / RUN_FILE, out=again, resume=False)
    train(run, folder=out)
    assert torch.equal(weights(first), weights(again))
    assert (first / RUN_FILE).read_text() == (again / RUN_FILE).read_text()


def test_the_record_tells_where_the_model_comes_from(said: dict[str, Any], tmp_path: Path) -> None:
    """Method, options as in the run file, start, data, licence with its text, read-out."""
    folder = go(said["atas"], tmp_path / "run").folder
    found, options = record(folder), tomllib.loads((folder / RUN_FILE).read_text())
    assert (found["method"], found["step"], found["license"]) == ("atas", 4, "MIT")
    assert found["readout"] == "naclip"
    assert (found["start"]["name"], "provenance" in found["start"]) == ("start", False)
    assert found["data"]["images"] == 12
    assert {k: v for k, v in found["options"].items() if v not in (None, "inf")} == {
        k: v for k, v in options.items() if v != float("inf")
    }
    assert (folder / "LICENSE.txt").read_text() == "terms"


@pytest.mark.parametrize(
    ("method", "asked", "readout"),
    [
        ("clipself", {}, "maskclip"),
        ("clipself", {"record_readout": "start"}, "naclip"),
        ("atas", {"record_readout": "trained", "readout": "vanilla"}, "vanilla"),
        ("atas", {"record_readout": "sclip"}, "sclip"),
    ],
)
def test_the_read_out_of_the_model_can_be_chosen(
    said: dict[str, Any], tmp_path: Path, method: str, asked: dict[str, str], readout: str
) -> None:
    """The start's, the one of training, or any."""
    folder = go(said[method] | {"max_steps": 1} | asked, tmp_path / "run").folder
    assert record(folder)["readout"] == readout


def test_alpha_mixes_what_is_saved_and_not_what_is_trained(
    said: dict[str, Any], start: Path, tmp_path: Path
) -> None:
    """The checkpoint has the student; the model folder a point between it and the start."""
    go(said["atas"] | {"alpha": 0.25}, tmp_path / "mixed")
    plain = go(said["atas"], tmp_path / "plain").folder
    student = load_checkpoint(tmp_path / "mixed")["model"]
    saved, first = (load_file(f / MODEL_WEIGHTS) for f in (tmp_path / "mixed", start))
    assert all(torch.equal(student[n], t) for n, t in load_file(plain / MODEL_WEIGHTS).items())
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    torch.testing.assert_close(saved[name], 0.25 * student[name] + 0.75 * first[name])


def test_a_finished_run_saves_its_model_otherwise(said: dict[str, Any], tmp_path: Path) -> None:
    """With another alpha and read-out, as a run that had them from the start."""
    folder = go(said["atas"], tmp_path / "run").folder
    again = go(said["atas"] | {"alpha": 0.25}, tmp_path / "mixed").folder
    assert not torch.equal(weights(folder), weights(again))
    change = {"alpha": 0.25, "record_readout": "sclip"}
    _, run = settle(change, config=None, out=folder, resume=True)
    train(run, folder=folder, resume=True)
    assert torch.equal(weights(folder), weights(again))
    assert (record(folder)["readout"], record(folder)["options"]["alpha"]) == ("sclip", 0.25)


def test_a_finished_run_writes_a_model_that_is_missing(
    said: dict[str, Any], tmp_path: Path
) -> None:
    """As after a kill between the last checkpoint and the model."""
    folder = go(said["atas"], tmp_path / "run").folder
    before = weights(folder)
    (folder / MODEL_WEIGHTS).unlink()
    go({}, folder)
    assert torch.equal(weights(folder), before)


def test_what_killed_runs_left_is_removed(said: dict[str, Any], tmp_path: Path) -> None:
    """Halves of the run's own files, and nothing else."""
    folder = tmp_path / "run"
    folder.mkdir()
    halves = [f"{name}.0a1b2c3d.part" for name in (CHECKPOINT, MODEL_WEIGHTS, LOG, RUN_FILE)]
    for name in (*halves, "notes.part"):
        (folder / name).write_text("half")
    go(said["atas"] | {"max_steps": 1}, folder)
    assert [path.name for path in folder.glob("*.part")] == ["notes.part"]


def test_the_record_has_what_the_defaults_became(said: dict[str, Any], tmp_path: Path) -> None:
    """Learning rate and number of steps, which the options leave open: 12 images by fours."""
    asked = {k: v for k, v in said["atas"].items() if k not in ("lr", "max_steps")}
    found = record(go(asked | {"epochs": 0.7}, tmp_path / "run").folder)
    assert (found["options"]["lr"], found["options"]["max_steps"]) == (None, None)
    assert (found["learning_rate"], found["steps"]) == (1e-3, 2)


def test_broken_images_are_told_and_recorded(
    said: dict[str, Any], photo_folder: Path, tmp_path: Path
) -> None:
    """The others are trained on."""
    (photo_folder / "02.png").write_bytes(b"damaged")
    outcome = go(said["atas"], tmp_path / "run")
    assert [Path(name).name for name in outcome.broken] == ["02.png"]
    assert [Path(name).name for name in record(outcome.folder)["data"]["unreadable"]] == ["02.png"]


def test_broken_images_of_earlier_steps_stay_recorded(
    said: dict[str, Any], photo_folder: Path, tmp_path: Path
) -> None:
    """Also by a run that goes on and does not come to them again."""
    (photo_folder / "02.png").write_bytes(b"damaged")
    folder = go(said["atas"], tmp_path / "run").folder
    go({}, folder)
    assert [Path(name).name for name in record(folder)["data"]["unreadable"]] == ["02.png"]


def test_broken_images_of_other_processes_are_recorded(
    said: dict[str, Any], tmp_path: Path
) -> None:
    """They are added to the record that is there."""
    folder = go(said["atas"], tmp_path / "run").folder
    before = record(folder)
    _, run = settle({}, config=None, out=folder, resume=True)
    clip = open_start(run.options.model, seed=0)
    loop = loop_settings(run.options, count=12, world=2, width=32)
    own: dict[str, str] = {}
    writer = ModelFolder(folder, clip, run, loop=loop, data=open_data(run), broken=own, resume=True)
    own["b.png"] = "cannot be read"
    writer.add_broken(["a.png"])
    assert record(folder)["data"].pop("unreadable") == ["a.png", "b.png"]
    before["data"]["unreadable"] = ["a.png", "b.png"]
    assert record(folder) == before


def test_a_checked_run_says_what_training_changed(
    said: dict[str, Any], labelled: dict[str, Any], tmp_path: Path
) -> None:
    """In the outcome, the log and training.json; measured on what is saved."""
    outcome = go(said["atas"] | labelled | {"max_steps": 2, "alpha": 0.0}, tmp_path / "run")
    (change,) = outcome.changes.values()
    assert change.units == 3
    assert all(difference.value == 0 for difference in change.differences.values())
    found = record(outcome.folder)["check"]["naclip"]
    assert (found["step"], found["units"]) == (2, 3)
    assert "check_present_miou" in outcome.row


def test_a_run_that_goes_on_keeps_the_last_check(
    said: dict[str, Any], labelled: dict[str, Any], tmp_path: Path
) -> None:
    """With its step, until the next one; not if the model is mixed otherwise now."""
    folder = go(said["atas"] | labelled | {"max_steps": 2}, tmp_path / "run").folder
    before = record(folder)["check"]
    go({}, folder)
    assert record(folder)["check"] == before
    _, run = settle({"alpha": 0.5}, config=None, out=folder, resume=True)
    train(run, folder=folder, resume=True)
    assert "check" not in record(folder)


def test_embeddings_of_the_teacher_can_be_kept(
    said: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run that finds them trains the same weights; its teacher sees no whole image."""
    taught: list[int] = []
    forward = DenseViT.forward

    def counting(self: DenseViT, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole = pixels.shape[-1] == 32 and not torch.is_grad_enabled()
        taught.extend([len(pixels)] * whole)
        return forward(self, pixels)

    monkeypatch.setattr(DenseViT, "forward", counting)
    asked = said["atas"] | {"teacher_cache": tmp_path / "cache", "local_form": "infonce"}
    asked |= {"local_to_local": 0.0}
    first = go(asked, tmp_path / "first").folder
    assert sum(taught) > 0
    taught.clear()
    again = go(asked, tmp_path / "again").folder
    assert taught == []
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert torch.equal(weights(first), weights(again))


def test_gradient_checkpointing_changes_nothing_but_memory(
    said: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are those of a run without; only with it blocks are computed again."""
    saved: list[Any] = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        saved.append(args)
        return checkpoint(*args, **kwargs)

    monkeypatch.setattr(vit, "checkpoint", counting)
    plain = go(said["atas"], tmp_path / "plain").folder
    assert not saved
    saving = go(said["atas"] | {"grad_checkpointing": True}, tmp_path / "saving").folder
    assert saved
    torch.testing.assert_close(weights(plain), weights(saving))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1e-4}, "started with --lr 0.001, not 0.0001"),
        ({"max_steps": 9}, "started with --max-steps 4, not 9"),
        ({"epochs": 2.0}, "--epochs unset, not 2.0|--max-steps 4, not unset"),
        ({"grids": (3,)}, r"started with --grids \[2\], not \[3\]"),
        ({"method": "clipself"}, "started with --method atas, not clipself"),
    ],
)
def test_a_run_that_goes_on_keeps_its_options(
    said: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Whatever decides the steps is refused if it changes."""
    go(said["atas"] | {"max_steps": 4}, tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        settle(change, config=None, out=tmp_path / "run", resume=True)


def test_a_run_that_goes_on_may_log_otherwise(said: dict[str, Any], tmp_path: Path) -> None:
    """So may it run elsewhere, save another share, and bear with more broken images."""
    go(said["atas"], tmp_path / "run")
    change = {"log_every": 7, "device": "cuda", "alpha": 0.5, "max_broken": 0.5}
    _, run = settle(change, config=None, out=tmp_path / "run", resume=True)
    assert (run.options.log_every, run.options.device, run.options.lr) == (7, "cuda", 1e-3)


@pytest.mark.parametrize("damaged", [True, False])
def test_a_run_that_is_refused_keeps_its_run_file(
    said: dict[str, Any], labelled: dict[str, Any], tmp_path: Path, damaged: bool
) -> None:
    """Whether its checkpoint or its labels cannot be used."""
    folder = go(said["atas"] | {"max_steps": 1}, tmp_path / "run").folder
    before = (folder / RUN_FILE).read_text()
    if damaged:
        torch.save({}, folder / CHECKPOINT)
    change = {"log_every": 7} if damaged else labelled | {"check_classes": None}
    said_now = {name: value for name, value in change.items() if value is not None}
    _, run = settle(said_now, config=None, out=folder, resume=True)
    with pytest.raises(AtasError):
        train(run, folder=folder, resume=True)
    assert (folder / RUN_FILE).read_text() == before


def test_a_run_does_not_go_on_with_other_images(
    said: dict[str, Any], photo_folder: Path, tmp_path: Path
) -> None:
    """They may have moved, but not changed their names or number."""
    go(said["atas"], tmp_path / "run")
    moved = photo_folder.rename(tmp_path / "moved")
    change = {"images": (str(moved),)}
    out, run = settle(change, config=None, out=tmp_path / "run", resume=True)
    assert train(run, folder=out, resume=True).step == 4
    (moved / "00.png").unlink()
    with pytest.raises(CheckpointError, match=r"other images \(12, now there are 11\)"):
        train(run, folder=out, resume=True)


def test_a_folder_with_a_run_is_not_overwritten(said: dict[str, Any], tmp_path: Path) -> None:
    """Nor does a run go on where there is none."""
    go(said["atas"] | {"max_steps": 1}, tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds a run already"):
        settle(said["atas"], config=None, out=tmp_path / "run", resume=False)
    with pytest.raises(CheckpointError, match="to resume from"):
        settle({}, config=None, out=tmp_path / "none", resume=True)


def test_a_folder_that_cannot_be_written_is_an_error(said: dict[str, Any], tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(OutputError):
        go(said["atas"], tmp_path / "run")


def test_short_runs_are_watched_too(said: dict[str, Any], tmp_path: Path) -> None:
    """At their end."""
    outcome = go(said["atas"] | {"max_steps": 2, "watch_every": 10}, tmp_path / "run")
    assert outcome.row["class_cosine"] > 0
    assert tomllib.loads((tmp_path / "run" / RUN_FILE).read_text())["watch_every"] == 2

"""A training run from data to model folder, by function and by command."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from atas_deploy.cli.main import main
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.weights import MODEL_WEIGHTS, load_model
from atas_deploy.core.errors import AtasError, ConfigError, OutputError
from atas_deploy.training.checkpoint import write_model
from atas_deploy.training.train import TrainOptions, open_start, train_contrastive


@pytest.fixture
def start(tiny_clip: ClipModel, tmp_path: Path) -> Path:
    """A model folder with random weights."""
    folder = tmp_path / "start"
    folder.mkdir()
    write_model(folder, tiny_clip, record={})
    return folder


@pytest.fixture
def options(start: Path, photo_folder: Path, captions_file: Path, tmp_path: Path) -> dict[str, Any]:
    """Four steps on the test data."""
    return {
        "images": photo_folder,
        "captions": captions_file,
        "model": str(start),
        "out": tmp_path / "run",
        "batch_size": 6,
        "max_steps": 4,
        "lr": 1e-3,
    }


def weights(folder: Path) -> torch.Tensor:
    """All weights of a model folder as one vector."""
    return torch.cat([t.flatten() for _, t in sorted(load_file(folder / MODEL_WEIGHTS).items())])


def command(options: dict[str, Any], *more: str) -> Result:
    """Run `atas-deploy train`."""
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    return CliRunner().invoke(main, ["train", "--method", "contrastive", *words, *more])


def test_training_learns_the_colours(options: dict[str, Any]) -> None:
    """Forty steps bring the loss well below that of chance."""
    outcome = train_contrastive(TrainOptions(**options | {"max_steps": 40, "lr": 3e-3}))
    log = [json.loads(row) for row in (outcome.folder / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] - 0.3


def test_open_clip_loads_the_folder(options: dict[str, Any]) -> None:
    """Plain open_clip gives the same weights as our loader."""
    outcome = train_contrastive(TrainOptions(**options))
    theirs = open_clip.create_model(f"local-dir:{outcome.folder}").state_dict()
    ours = load_model(outcome.folder).model.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_the_same_seed_gives_the_same_weights(options: dict[str, Any], tmp_path: Path) -> None:
    """Two runs are equal to the last bit; another seed differs."""
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    train_contrastive(TrainOptions(**options | {"out": one}))
    train_contrastive(TrainOptions(**options | {"out": two}))
    train_contrastive(TrainOptions(**options | {"out": three, "seed": 1}))
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(three))


def test_a_configuration_starts_from_random_weights(start: Path) -> None:
    """The seed decides them."""
    path = str(start / "open_clip_config.json")
    first, again, other = (open_start(path, seed=seed).model for seed in (1, 1, 2))
    assert torch.equal(first.visual.proj, again.visual.proj)
    assert not torch.equal(first.visual.proj, other.visual.proj)


def test_unknown_devices_are_refused(options: dict[str, Any]) -> None:
    """Before anything is loaded."""
    for name in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError, match=name):
            train_contrastive(TrainOptions(**options | {"device": name}))


def test_a_folder_that_cannot_be_written_is_an_error(options: dict[str, Any]) -> None:
    """A file stands where the folder should be."""
    options["out"].write_text("in the way")
    with pytest.raises(OutputError):
        train_contrastive(TrainOptions(**options))


def test_command_trains_and_resumes(options: dict[str, Any]) -> None:
    """It says what it wrote; a second run in the same folder needs --resume."""
    first = command(options, "--lock-image")
    assert first.exit_code == 0, first.output
    assert "4 steps" in first.output
    again = command(options, "--lock-image")
    assert again.exit_code == 1
    assert "--resume" in again.output
    assert command(options, "--lock-image", "--resume").exit_code == 0


def test_command_names_what_it_skipped(options: dict[str, Any], photo_folder: Path) -> None:
    """Damaged images are named; the run succeeds."""
    (photo_folder / "02.png").write_bytes(b"damaged")
    result = command(options)
    assert result.exit_code == 0, result.output
    assert "02.png" in result.output


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        ({"captions": "nowhere.csv"}, "nowhere.csv cannot be read", 1),
        ({"images": "nowhere"}, "neither a folder", 1),
        ({"model": "no-such-model"}, "no-such-model", 2),
        ({"batch_size": 1}, "batch size is 1", 2),
        ({"lr": -1}, "learning rate", 2),
    ],
)
def test_bad_input_is_one_sentence(
    options: dict[str, Any], change: dict[str, Any], message: str, code: int
) -> None:
    """An exit code, 2 for what cannot be used, and no traceback."""
    result = command(options | change)
    assert result.exit_code == code
    assert message in result.output
    assert "Traceback" not in result.output
    assert result.output.strip().count("\n") == 0


def test_resuming_a_finished_run_tells_its_loss(options: dict[str, Any]) -> None:
    """Nothing is trained; the loss is that of the log."""
    first = command(options)
    again = command(options, "--resume")
    assert again.output.splitlines()[-1] == first.output.splitlines()[-1]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_cfg": {"embed_dim": 4}}'])
def test_bad_configurations_are_refused(tmp_path: Path, content: str) -> None:
    """Whatever the JSON file holds, the answer is one of our errors."""
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(AtasError):
        open_start(str(path), seed=0)

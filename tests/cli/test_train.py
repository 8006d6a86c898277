"""`atas-deploy train` as a user types it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from atas_deploy.cli.main import main
from atas_deploy.cli.train import train
from atas_deploy.clip.weights import load_model
from atas_deploy.training.options import OPTIONS, SETTINGS

VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TINY = {"model_cfg": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}}
SHORT = (
    "--model",
    "tiny.json",
    "--size",
    "32",
    "--grids",
    "1",
    "--batch-size",
    "2",
    "--max-steps",
    "2",
)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four noisy pictures in photos/ of the current folder, and tiny.json for random weights."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.json").write_text(json.dumps(TINY))
    folder = Path("photos")
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels = rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), pixels)
    return folder


def command(*words: str) -> Result:
    """Run `atas-deploy train`."""
    return CliRunner().invoke(main, ["train", *words])


def test_images_are_all_it_needs(photos: Path) -> None:
    """It trains by ATAS into runs/NAME, says what came out, and what to type next."""
    result = command("--images", "photos/")
    assert result.exit_code == 0, result.output
    assert load_model("runs/photos").name == "photos"
    assert "batch size 4, as there are only 4 images" in result.stderr
    first, *_, last = result.stdout.splitlines()
    assert re.match(r"runs/photos: \d+ steps?, loss ", first)
    assert last.endswith('segment photo.jpg --classes "dog,grass" --model runs/photos')


def test_a_second_run_needs_another_folder_or_goes_on(photos: Path) -> None:
    """The end of a run that goes on with nothing to do tells its loss, too."""
    first = command("--images", "photos", *SHORT)
    again = command("--images", "photos", *SHORT)
    assert again.exit_code == 1
    assert "--resume" in again.output
    resumed = command("--resume", "--out", "runs/photos")
    assert resumed.exit_code == 0, resumed.output
    assert resumed.stdout.splitlines()[0] == first.stdout.splitlines()[0]


def test_quiet_runs_print_nothing(photos: Path) -> None:
    """Errors apart."""
    result = command("--images", "photos", *SHORT, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_broken_images_are_named(photos: Path) -> None:
    """The run succeeds without them."""
    (photos / "2.png").write_bytes(b"damaged")
    result = command("--images", "photos", *SHORT)
    assert result.exit_code == 0, result.output
    assert "skipped photos/2.png" in result.stderr


def test_ctrl_c_saves_and_tells_how_to_go_on(photos: Path) -> None:
    """Exit code 130; the command that is printed resumes the run."""
    words = ["--images", "photos", *SHORT[:-1], "100000", "--log-every", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "atas_deploy", "train", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    log, deadline = Path("runs/photos/log.jsonl"), time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    (way,) = re.findall(r"atas-deploy train (.*) goes on", errors)
    assert Path("runs/photos/checkpoint.pt").exists()
    refused = command(*way.split(), "--max-steps", "3")
    assert "was started with --max-steps 100000, not 3" in refused.output


def test_a_run_file_can_be_printed_and_used(photos: Path) -> None:
    """Every option of the method is in it; nothing is trained, and no images are needed."""
    printed = command("--method", "clipself", "--print-config", "--lr", "2e-5")
    options = tomllib.loads(printed.stdout)
    assert (options["method"], options["lr"]) == ("clipself", 2e-5)
    names = [f.name for part in (OPTIONS, SETTINGS) for f in fields(part["clipself"])]
    assert all(name in printed.stdout for name in names)
    text = printed.stdout.replace("images = []", 'images = "photos"\nout = "here"')
    Path("my.toml").write_text(text)
    short = [word for word in SHORT if word not in ("--grids", "1")]
    result = command("--config", "my.toml", *short)
    assert result.exit_code == 0, result.output
    assert tomllib.loads(Path("here/run.toml").read_text())["size"] == 32


def test_every_option_has_a_flag_and_every_flag_an_option() -> None:
    """Under the same name, so that run files and the command line agree."""
    flags = {parameter.name for parameter in train.params}
    names = {f.name for parts in (OPTIONS, SETTINGS) for p in parts.values() for f in fields(p)}
    about_the_run = {"method", "preset", "out", "config", "print_config", "resume", "quiet"}
    assert flags == names | about_the_run


def test_the_help_is_there_at_once() -> None:
    """Without torch, and with the defaults of the dataclasses."""
    code = (
        "import sys; from click.testing import CliRunner; from atas_deploy.cli.main import main;"
        "print(CliRunner().invoke(main, ['train', '--help']).output); assert 'torch' not in"
        " sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    size = SETTINGS["atas"]().size
    assert re.search(rf"--size PIXELS .*?\[default: {size}", text)


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        ("", "Got no images to train on", 2),
        ("--images nowhere", "nowhere", 1),
        ("--images photos --model nothing", "nothing", 2),
        ("--images photos --device gpu", 'Device "gpu" is unknown', 2),
        ("--images photos --batch-size 9", "batch size is 9", 2),
        ("--images photos --captions a.csv", "option of the method contrastive", 2),
        ("--images photos --method clipself --grids 2", "option of the method atas", 2),
        ("--images photos --method contrastive", "needs captions", 2),
        ("--images photos --method contrastive --captions a.csv", "a.csv cannot be read", 1),
        (
            "--images photos --images more --method contrastive --captions a.csv",
            "given 2 times",
            2,
        ),
        ("--images photos --config none.toml", "Cannot read the run file none.toml", 2),
        ("--images photos --size 8", "does not fit 8 pixels", 2),
        ("--images photos --method clipself --size 100", "multiple of the patch size", 2),
        ("--images photos --method clipself --proposals none.json", "none.json", 1),
        ("--images photos --last-blocks 99", "last 99 blocks", 2),
        ("--images photos --lr inf", "--lr is inf; give a finite", 2),
        ("--images photos --lr nan", "--lr is nan", 2),
        ("--images photos --temperature nan", "--temperature is nan", 2),
        ("--images photos --weight-decay inf", "--weight-decay is inf", 2),
        ("--images photos --size 1000000 --grids 1", "too little memory", 1),
        ("--images photos --epochs 1 --max-steps 1", "both --epochs and --max-steps", 2),
        ("--images photos --grids 0", r"grids are \(0,\)", 2),
        ("--images photos --check-images photos", "with no labels", 2),
        ("--images photos --check-images none --check-labels none", "none", 1),
        ("--images photos --check-images photos --check-labels photos", "--check-classes", 2),
        ("--images photos --out photos/0.png", "photos/0.png", 1),
        ("--resume --out nowhere", "no checkpoint.pt to resume from", 1),
        ("--resume", "name the folder of the run with --out", 2),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    photos: Path, words: str, message: str, code: int
) -> None:
    """With an exit code, 2 for what cannot be used, and without a traceback."""
    result = command(*words.split(), *(() if "--max-steps" in words else ("--max-steps", "1")))
    plan = re.compile("batch size 4|(atas|clipself) from atas-tiny: 4 images")
    said = [line for line in result.stderr.splitlines() if not plan.match(line)]
    assert (result.exit_code, len(said)) == (code, 1), result.output
    assert re.search(message, said[0])
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "words",
    [
        "--grids 2,x",
        "--alpha 2",
        "--epochs 0",
        "--method magic",
        "--preset best",
        "--seed 9999999999",
    ],
)
def test_values_out_of_range_are_wrong_usage(words: str) -> None:
    """Click says which option, and what is expected."""
    result = command("--images", "photos", *words.split())
    assert result.exit_code == 2
    assert f"Invalid value for '{words.split()[0]}'" in result.stderr

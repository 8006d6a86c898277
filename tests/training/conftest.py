"""A tiny model and tiny data for training tests."""

import csv
import multiprocessing
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.tokenizer import default_bpe
from PIL import Image

from atas_deploy.clip.folder import write_model
from atas_deploy.clip.model import ClipModel, build_model

VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
CONFIG = {
    "model_cfg": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT},
    "preprocess_cfg": {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small matrices are fastest on one thread."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny_clip() -> ClipModel:
    """A seeded CLIP of two image blocks and one text block."""
    torch.manual_seed(0)
    return ClipModel(
        model=build_model(CONFIG), config=CONFIG, name="tiny", tokenizer_file=Path(default_bpe())
    )


@pytest.fixture
def start(tiny_clip: ClipModel, tmp_path: Path) -> Path:
    """A model folder with random weights that knows its read-out."""
    folder = tmp_path / "start"
    folder.mkdir()
    write_model(folder, tiny_clip, record={"readout": "naclip", "license": "MIT"})
    (folder / "LICENSE.txt").write_text("terms")
    return folder


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Twelve noisy one-colour pictures in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        colour = list(COLOURS.values())[i % 3]
        noise = rng.integers(-25, 25, (40, 48, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def captions_file(tmp_path: Path) -> Path:
    """Two captions for each picture of `photo_folder`."""
    path = tmp_path / "captions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for i in range(12):
            colour = list(COLOURS)[i % 3]
            writer.writerows([[f"{i:02d}.png", f"a {colour} wall"], [f"{i:02d}.png", colour]])
    return path


@pytest.fixture
def in_two_processes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Any]]:
    """Call a function of the test's file in two processes that torch.distributed joins by gloo.

    `in_two_processes(function, *arguments)` calls `function(group, *arguments)` in each, and gives
    what they return or raise. They are forked from a server that has imported torch already.
    """
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import rank_process

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rank_process", "atas_deploy.training.methods"])

    def call(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pipes, processes = [], []
        for rank in range(2):
            ours, theirs = context.Pipe(duplex=False)
            given = pickle.dumps(arguments)
            job = (rank, port, request.path, function.__name__, given, theirs)
            process = context.Process(target=rank_process.start, args=job)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        try:
            assert all(pipe.poll(300) for pipe in pipes), "a process hangs"
            return [pickle.loads(pipe.recv_bytes()) for pipe in pipes]
        finally:
            for process in processes:
                process.join(10)
                process.kill()

    return call

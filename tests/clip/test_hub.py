"""Models of the Hugging Face hub, out of a cache folder and without a network."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from atas_deploy.clip.hub import is_reachable
from atas_deploy.clip.model import build_model

Writers = dict[str, Callable[[Path], Path]]
CONFIG = {
    "model_cfg": {
        "embed_dim": 24,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16},
        "text_cfg": {
            "context_length": 6,
            "vocab_size": 10,
            "width": 32,
            "heads": 2,
            "layers": 1,
            "no_causal_mask": True,
            "pool_type": "last",
            "hf_tokenizer_name": "org/words",
            "tokenizer_kwargs": {"clean": "canonicalize"},
        },
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3},
}
LOAD = """
import sys
from atas_deploy.clip.weights import load_model
from atas_deploy.core.errors import AtasError
try:
    loaded = load_model(sys.argv[1])
except AtasError as exc:
    print(type(exc).__name__, exc)
else:
    print(loaded.name, loaded.mean[0], float(loaded.model.logit_scale), loaded.record)
    print(loaded.tokenizer()(["A dog!"]).tolist())
"""


def snapshot(cache: Path, repository: str) -> Path:
    """The folder of a repository's files, as huggingface_hub lays it out."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs/main").write_text("0123")
    (root / "snapshots/0123").mkdir(parents=True)
    return root / "snapshots/0123"


@pytest.fixture
def cache(tmp_path: Path, write_tokenizer: Writers) -> Path:
    """A cache with a model, the tokenizer it names, and a repository of another format."""
    torch.manual_seed(0)
    model = build_model(CONFIG)
    torch.nn.init.constant_(model.logit_scale, 3.5)
    folder = snapshot(tmp_path, "org/model")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    write_tokenizer["t5"](snapshot(tmp_path, "org/words"))
    (snapshot(tmp_path, "org/other") / "config.json").write_text("{}")
    return tmp_path


def load(cache: Path, source: str, **settings: str) -> str:
    """What a process prints that loads a model with nothing but this cache."""
    settings = settings or {"HF_HUB_OFFLINE": "1"}
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "NO_PROXY": "127.0.0.1"} | settings
    done = subprocess.run(
        [sys.executable, "-c", LOAD, source],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_model_with_a_tokenizer_of_its_own(cache: Path) -> None:
    """Configuration, weights and tokenizer come from their repositories."""
    printed = load(cache, "hf-hub:org/model")
    assert "model 0.5 3.5" in printed
    assert "'repository': 'org/model'" in printed
    assert "[[3, 4, 1, 1, 1, 1]]" in printed


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "hf-hub:org/none",
            "CheckpointError Cannot fetch open_clip_config.json of hf-hub:org/none",
        ),
        ("hf-hub:org/other", "check that the repository is in open_clip's format"),
        ("ViT-B-16/openai", "Cannot fetch the weights of ViT-B-16/openai"),
    ],
)
def test_what_is_not_there(cache: Path, source: str, reason: str) -> None:
    """Without the network a missing repository is one sentence with the cure."""
    printed = load(cache, source)
    assert reason in printed
    assert printed.count("\n") == 1
    assert "connect to the network once" in printed


def test_missing_tokenizer(cache: Path) -> None:
    """The message says which files to put beside the model."""
    (cache / "models--org--words/snapshots/0123/tokenizer.json").unlink()
    printed = load(cache, "hf-hub:org/model")
    assert "the tokenizer org/words" in printed
    assert "put its tokenizer.json and tokenizer_config.json beside the model" in printed


def test_hub_that_cannot_be_reached(cache: Path) -> None:
    """Its cache is used; for what is not there the client does not try again and again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_reachable("127.0.0.1", port)
    assert not is_reachable("127.0.0.1", port)
    assert not is_reachable("host.invalid", 443)
    endpoint = f"http://127.0.0.1:{port}"
    assert "model 0.5 3.5" in load(cache, "hf-hub:org/model", HF_ENDPOINT=endpoint)
    for source in ("hf-hub:org/none", "ViT-B-16/openai"):
        printed = load(cache, source, HF_ENDPOINT=endpoint)
        assert "(there is no connection to 127.0.0.1); connect to the network once" in printed

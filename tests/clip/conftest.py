"""Small seeded CLIP models of every kind that the dense tower supports."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.tokenizer import default_bpe
from safetensors.torch import save_file

from atas_deploy.clip.folder import write_model
from atas_deploy.clip.model import ClipModel, build_model, with_preprocessing

torch.set_num_threads(1)

TEXT = {"context_length": 16, "vocab_size": 814, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, "layers": 3}
KINDS: dict[str, dict[str, Any]] = {
    "ln_pre, GELU": {"vision": {}},
    "no ln_pre, own eps": {"vision": {"no_ln_pre": True, "norm_kwargs": {"eps": 1e-3}}},
    "QuickGELU, not square": {"vision": {"image_size": [48, 80]}, "quick_gelu": True},
    "mean of the patches": {"vision": {"pool_type": "avg"}},
    "mean of the patches, norm last": {
        "vision": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}
    },
    "LayerScale, norm last": {"vision": {"ls_init_value": 0.3, "final_ln_after_pool": True}},
}


def make_config(kind: str, **vision: Any) -> dict[str, Any]:
    """The open_clip configuration of one of `KINDS`."""
    settings = dict(KINDS[kind])
    tower = VISION | settings.pop("vision") | vision
    return {"model_cfg": {"embed_dim": 24, "vision_cfg": tower, "text_cfg": TEXT, **settings}}


def make_model(config: dict[str, Any]) -> Any:
    """A seeded model whose norms and biases are not the ones and zeros of a new one."""
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> open_clip.CLIP:
    """One model of each kind."""
    return make_model(make_config(request.param))


@pytest.fixture
def family_model(family_config: Callable[[str], dict[str, Any]]) -> Callable[[str], Any]:
    """Narrow seeded models by family: native, eva, siglip."""
    return lambda family: make_model({"model_cfg": family_config(family)})


@pytest.fixture
def plain_model() -> open_clip.CLIP:
    """A model of the usual kind."""
    return make_model(make_config("ln_pre, GELU"))


@pytest.fixture
def remake() -> Callable[..., open_clip.CLIP]:
    """Make a model of the usual kind with other settings of the image tower."""
    return lambda **vision: make_model(make_config("ln_pre, GELU", **vision))


@pytest.fixture
def folder(tmp_path: Path, plain_model: open_clip.CLIP) -> Path:
    """A model folder as training writes it, float16 weights and a tokenizer of 300 merges."""
    path = tmp_path / "tiny"
    (path / "tokenizer").mkdir(parents=True)
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[:301]
    (path / "tokenizer/merges.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    config = make_config("ln_pre, GELU") | {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.2] * 3}}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    state = {name: tensor.half() for name, tensor in plain_model.state_dict().items()}
    save_file(state, path / "open_clip_model.safetensors")
    return path


@pytest.fixture
def family_folder(
    tmp_path: Path, family_config: Callable[[str], dict[str, Any]]
) -> Callable[[str], Path]:
    """Write the model folder of a family as training does, with as many merges as it has words."""

    def write(family: str) -> Path:
        folder = tmp_path / family
        folder.mkdir()
        config = with_preprocessing({"model_cfg": family_config(family)})
        count = config["model_cfg"]["text_cfg"]["vocab_size"] - 514
        lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[: count + 1]
        (folder / "merges.txt").write_text("\n".join(lines))
        clip = ClipModel(
            model=make_model(config),
            config=config,
            name=family,
            tokenizer_file=folder / "merges.txt",
        )
        write_model(folder, clip, record={"name": family})
        return folder

    return write

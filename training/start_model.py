"""What a run starts from: the weights, and the device that they go to."""

import json
from pathlib import Path

import torch

from atas_deploy.clip.hub import find_tokenizer
from atas_deploy.clip.model import (
    ClipModel,
    build_model,
    with_checked_tokenizer,
    with_preprocessing,
)
from atas_deploy.clip.weights import load_model
from atas_deploy.core.errors import CheckpointError, ConfigError
from atas_deploy.models import weights_source


def open_start(source: str, *, seed: int) -> ClipModel:
    """Load the model to start from: a name, a folder or a configuration file.

    A configuration gives random weights; its tokenizer lies beside it or is the one it names.

    Raises:
        ConfigError: the source is unknown or not supported.
        CheckpointError: it cannot be read.
    """
    path = Path(source)
    if path.suffix != ".json":
        return load_model(weights_source(source))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = with_preprocessing({**content, "model_cfg": content["model_cfg"]})
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(
            f"{path} is not an open_clip configuration ({exc}); it needs model_cfg with embed_dim, "
            "vision_cfg and text_cfg."
        ) from exc
    torch.manual_seed(seed)
    clip = ClipModel(
        model=build_model(config),
        config=config,
        name=path.parent.name,
        tokenizer_file=find_tokenizer(config, path.parent),
    )
    return with_checked_tokenizer(clip)


def open_device(name: str) -> torch.device:
    """The device, if it is there.

    Raises:
        ConfigError: it is unknown or missing.
    """
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise ConfigError(f'Device "{name}" is unknown; choose cpu, cuda or cuda:N.') from exc
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f'Device "{name}" is not there: PyTorch sees {torch.cuda.device_count()} GPUs; use '
            "--device cpu or install a CUDA build of PyTorch."
        )
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f'Device "{name}" is not supported; choose cpu, cuda or cuda:N.')
    return device

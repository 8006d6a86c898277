"""One training run as the command line asks for it: data, model, method, loop, model folder."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from atas_deploy import __version__
from atas_deploy.clip.hub import find_tokenizer
from atas_deploy.clip.model import (
    ClipModel,
    build_model,
    with_checked_tokenizer,
    with_preprocessing,
)
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import LICENSE_TEXTS
from atas_deploy.core.errors import CheckpointError, ConfigError
from atas_deploy.core.files import atomic_path
from atas_deploy.models import weights_source
from atas_deploy.training.checkpoint import CHECKPOINT, make_folder, write_model
from atas_deploy.training.contrastive import (
    ContrastiveObjective,
    ContrastiveSettings,
    count_steps,
)
from atas_deploy.training.loop import Hooks, LoopSettings, run
from atas_deploy.training.pairs import Pairs, open_pairs

_INHERITED = ("architecture", "readout", "license", "short_side")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """Options of the command; `max_steps` goes before `epochs`."""

    images: Path
    captions: Path
    model: str
    out: Path
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 64
    lr: float = 1e-5
    weight_decay: float = 0.1
    layer_decay: float = 1.0
    warmup_steps: int | None = None
    lock_image: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    seed: int = 0
    log_every: int = 10
    save_every: int = 200
    resume: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOutcome:
    """What a run leaves.

    Attributes:
        folder: the model folder.
        step: steps taken in all.
        loss: the loss of the last log row, NaN if there was none.
        interrupted: the signal that stopped the run, or None.
        broken: images that could not be read, with the reason.
    """

    folder: Path
    step: int
    loss: float
    interrupted: int | None
    broken: Mapping[str, str]


def train_contrastive(options: TrainOptions, *, hooks: Hooks | None = None) -> TrainOutcome:
    """Train a model on image-text pairs and write it as a model folder.

    Args:
        options: what to do.
        hooks: called on the way.

    Raises:
        InputError: images or captions cannot be read.
        ConfigError: an option cannot be used.
        CheckpointError: the model or the run to resume cannot be read, or the folder is taken.
        NonFiniteLossError: training diverged.
        OutputError: the folder cannot be written.
    """
    hooks = hooks or Hooks()
    device = _check_device(options.device)
    _check_folder(options)
    pairs = open_pairs(options.images, options.captions)
    clip = open_start(options.model, seed=options.seed)
    clip.model.to(device)
    method = ContrastiveSettings(
        batch_size=options.batch_size,
        weight_decay=options.weight_decay,
        layer_decay=options.layer_decay,
        lock_image=options.lock_image,
    )
    objective = ContrastiveObjective(clip, pairs, method, seed=options.seed)
    settings = _loop_settings(options, len(pairs))

    _carry_license(clip, options.out)

    def save(step: int) -> None:
        write_model(options.out, clip, record=_record(options, pairs, clip, step=step))
        hooks.on_save(step)

    result = run(
        objective,
        settings,
        folder=options.out,
        resume=options.resume,
        hooks=replace(hooks, on_save=save),
    )
    return TrainOutcome(
        folder=options.out,
        step=result.step,
        loss=result.losses.get("loss", float("nan")),
        interrupted=result.interrupted,
        broken=pairs.broken,
    )


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


def _loop_settings(options: TrainOptions, count: int) -> LoopSettings:
    steps = options.max_steps or count_steps(
        count=count, batch_size=options.batch_size, epochs=options.epochs
    )
    warmup = steps // 10 if options.warmup_steps is None else options.warmup_steps
    return LoopSettings(
        steps=steps,
        learning_rate=options.lr,
        warmup_steps=warmup,
        precision=options.precision,
        seed=options.seed,
        log_every=options.log_every,
        save_every=options.save_every,
    )


def _check_device(name: str) -> torch.device:
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


def _check_folder(options: TrainOptions) -> None:
    """Refuse to overwrite a run by accident.

    Raises:
        CheckpointError: the folder holds a run and `resume` is not asked for.
    """
    make_folder(options.out)
    if (options.out / CHECKPOINT).exists() and not options.resume:
        raise CheckpointError(
            f"{options.out} holds a run already; go on with it by --resume, or choose another "
            "folder."
        )


def _carry_license(clip: ClipModel, out: Path) -> None:
    """Copy the licence texts of the weights that training starts from: they bind what comes out."""
    for pattern in LICENSE_TEXTS:
        for text in clip.folder.glob(pattern) if clip.folder else ():
            with atomic_path(out / text.name) as part:
                shutil.copyfile(text, part)


def _record(options: TrainOptions, pairs: Pairs, clip: ClipModel, *, step: int) -> dict[str, Any]:
    """Content of training.json."""
    settings = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(options).items()
        if key not in {"resume", "out"}
    }
    inherited = {key: clip.record[key] for key in _INHERITED if key in clip.record}
    return {
        "name": options.out.resolve().name,
        **inherited,
        "method": "contrastive",
        "version": __version__,
        "torch": torch.__version__,
        "step": step,
        "options": settings,
        "start": {"name": clip.name, **clip.record},
        "data": {
            "images": len(pairs),
            "captions": sum(len(texts) for texts in pairs.captions),
            "captions_without_image": len(pairs.missing),
            "unreadable": sorted(pairs.broken),
        },
    }

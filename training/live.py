"""The model in training as an engine of the runtime: evaluation runs on it without an export.

B images, N texts, L tokens, H W pixels, h w grid, D embedding width
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from atas_deploy.backends.base import Backend, ImageFeatures, check_images
from atas_deploy.clip.manifest import encoder_settings, make_manifest
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.bundle import (
    IMAGE_ENCODER,
    MODEL_CONFIG,
    TEXT_ENCODER,
    Bundle,
    FileRecord,
    record_files,
)
from atas_deploy.core.errors import BackendError, first_sentence


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A model in training as the runtime takes it: `Segmenter(live.bundle, backend=live.backend)`.

    Attributes:
        bundle: manifest, configuration and tokenizer, in a temporary folder; no graphs. Where
            those are recorded in a bundle, this one has hashes over the weights as they were when
            it was made: features that are kept on disk belong to those weights.
        backend: the engine.
    """

    bundle: Bundle
    backend: Backend


class TorchBackend:
    """The towers of a model in PyTorch, as an engine; it computes what their graphs would.

    Args:
        image: the image tower behind its pixel normalisation, on the device.
        text: the text tower, on the device.
        device: where they are.
        precision: "fp32", or "bf16" for autocast; features are float32 and of unit length anyway.
    """

    name = "torch"

    def __init__(
        self, image: ImageGraph, text: TextEncoder, *, device: torch.device, precision: str
    ) -> None:
        self.device = str(device)
        self._image, self._text = image, text
        self._bf16 = precision == "bf16"

    def encode_images(self, images: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 RGB images; H, W are multiples of the manifest's."""
        check_images(images, multiple=self._image.tower.multiple)
        with self._inference(f"encode images of shape {images.shape}"):
            dense, image = self._image(torch.tensor(images, device=self.device))
            return ImageFeatures(dense.cpu().numpy(), image.cpu().numpy())

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised."""
        with self._inference(f"encode texts of shape {tokens.shape}"):
            text = self._text(torch.tensor(tokens, device=self.device))
            features: npt.NDArray[np.float32] = F.normalize(text.float(), dim=-1).cpu().numpy()
        return features

    @contextmanager
    def _inference(self, action: str) -> Iterator[None]:
        """No gradients, the own precision whatever that around it, and PyTorch's errors as ours.

        Autocast must not remember casts that were made without gradients: training would use them.
        """
        kind = torch.device(self.device).type
        autocast = torch.autocast(kind, torch.bfloat16, enabled=self._bf16, cache_enabled=False)
        try:
            with torch.no_grad(), autocast:
                yield
        except RuntimeError as exc:
            raise BackendError(
                f"PyTorch could not {action}: {first_sentence(exc)}; use smaller or fewer images "
                "for the check if memory ran out."
            ) from exc


@contextmanager
def live_model(
    clip: ClipModel,
    *,
    readout: str | None = None,
    device: torch.device | str | None = None,
    precision: str = "fp32",
) -> Iterator[LiveModel]:
    """Open a model in training for the runtime and the evaluation, inside a `with` block.

    The weights are shared, not copied, unless another device is asked for; inside, the model is in
    eval mode, and afterwards each module in the mode that it had before.

    Args:
        clip: the model.
        readout: how dense features are read; None = as the model records, else sclip.
        device: where to run; None = where the model is; elsewhere a copy of it runs.
        precision: "fp32", or "bf16" for autocast.

    Raises:
        ConfigError: there is no such read-out.
        BundleError: the tokenizer's file is missing or damaged.
    """
    own = next(clip.model.parameters()).device
    there = own if device is None else torch.empty(0, device=device).device  # with its index
    if there != own:
        clip = replace(clip, model=deepcopy(clip.model).to(there))
    with TemporaryDirectory(prefix="atas-live-") as folder, _in_eval_mode(clip.model):
        tower = DenseViT(clip.model.visual, **encoder_settings(clip, readout=readout))
        image = ImageGraph(tower, mean=clip.mean, std=clip.std).to(there).eval()
        text = TextEncoder(clip.model).to(there).eval()
        bundle = _describe(clip, tower, text, folder=Path(folder), precision=precision)
        yield LiveModel(bundle, TorchBackend(image, text, device=there, precision=precision))


def _describe(
    clip: ClipModel, image: DenseViT, text: TextEncoder, *, folder: Path, precision: str
) -> Bundle:
    """A bundle without graphs in an empty folder."""
    (folder / MODEL_CONFIG).write_text(json.dumps(dict(clip.config)), encoding="utf-8")
    clip.write_tokenizer(folder)
    manifest = make_manifest(clip, image, text, opset=0, precision=precision)
    settings = manifest.to_json()
    hashes = {IMAGE_ENCODER: _hash(image, settings), TEXT_ENCODER: _hash(text, precision)}
    return Bundle(folder, replace(manifest, files=record_files(folder) | hashes))


def _hash(module: nn.Module, settings: str) -> FileRecord:
    """SHA-256 over weights, their names and settings, and the size of the weights in bytes."""
    digest, size = hashlib.sha256(settings.encode()), 0
    for name, tensor in module.state_dict().items():
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(name.encode())
        digest.update(data)
        size += data.nbytes
    return FileRecord(sha256=digest.hexdigest(), size=size)


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training

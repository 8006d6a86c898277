"""Write a model as a bundle: graphs, proof, tokenizer, weights, manifest; all of it or nothing."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import save_file

from atas_deploy import __version__
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.clip.manifest import encoder_settings, make_manifest
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.bundle import (
    IMAGE_ENCODER,
    LICENSE_TEXTS,
    MANIFEST,
    MODEL_CONFIG,
    PARITY,
    TEXT_ENCODER,
    WEIGHTS,
    Bundle,
    Manifest,
    record_files,
)
from atas_deploy.core.errors import ConfigError
from atas_deploy.export import parity
from atas_deploy.export.cases import Cases, image_batches, image_cases, text_cases
from atas_deploy.export.folder import new_folder
from atas_deploy.export.storage import (
    LARGEST_FILE,
    compact_state,
    save_graph,
    store_weights,
    weight_storage,
)
from atas_deploy.export.to_onnx import OPSET, image_to_onnx, text_to_onnx

_TOOLS = ("torch", "open_clip_torch", "onnx", "onnxscript")
_CARRIED = (*LICENSE_TEXTS, "MODEL_CARD.md", "README.md")


@dataclass(frozen=True, kw_only=True, slots=True)
class Towers:
    """The two modules that become graphs."""

    image: ImageGraph
    text: TextEncoder


def export_bundle(
    model: ClipModel,
    out: Path,
    *,
    readout: str | None = None,
    stride: int | None = None,
    attention_window: int | None = None,
    weights: bool = True,
    force: bool = False,
    photos: Sequence[npt.NDArray[np.uint8]] = (),
    license_id: str | None = None,
    largest_file: int = LARGEST_FILE,
) -> Bundle:
    """Export a model, compare the graphs with PyTorch, and write the bundle.

    Args:
        model: what to export.
        out: folder to write; an existing bundle there stays valid until the new one is complete.
        readout: how dense features are read; by default as the model records, else sclip.
        stride: pixels from cell to cell of the grid; None = as the model records, else the patch
            size.
        attention_window: side of the windows that attention keeps to, in cells, up to the size that
            the model was trained at; 0 = none; None = as the model records, else none.
        weights: whether to keep the weights in the bundle, to train on or to export again.
        force: replace an existing bundle.
        photos: (H, W, 3) uint8 RGB images to compare on, besides synthetic ones.
        license_id: SPDX expression of the weights; by default as the model records.
        largest_file: bytes of weights that an ONNX file may hold; beyond, they lie beside it.

    Returns:
        The bundle written.

    Raises:
        ConfigError: the model or the read-out is not supported.
        ExportError: the model cannot be turned into ONNX.
        ParityError: a graph does not compute what the model computes; nothing is written.
        OutputError: the folder exists, or cannot be written.
    """
    settings = encoder_settings(
        model, readout=readout, stride=stride, attention_window=attention_window
    )
    towers = build_towers(model, **settings)
    with new_folder(out, force=force) as folder:
        storage = _write_graphs(folder, towers, largest_file=largest_file)
        _write_model(folder, model, weights=weights)
        manifest = _manifest(model, towers, storage=storage, license_id=license_id)
        stages = prove_graphs(Bundle(folder, manifest), model, towers, photos=photos)
        inputs = f"noise, a colour gradient, a flat colour and {len(photos)} photos; 3 texts"
        proof = {"reference": "PyTorch, float32, CPU", "inputs": inputs, "stages": stages}
        _write_json(folder / PARITY, proof)
        _write_manifest(folder, manifest)
        Bundle.open(folder).verify()
    return Bundle.open(out)


def build_towers(
    model: ClipModel, readout: str, stride: int | None = None, attention_window: int | None = None
) -> Towers:
    """The modules to export; they share the model's weights.

    Raises:
        ConfigError: the model, the read-out or another setting is not supported.
    """
    visual = DenseViT(model.model.visual, readout, stride=stride, attention_window=attention_window)
    largest = max(visual.trained_size) // visual.stride
    if attention_window is not None and attention_window > largest:
        raise ConfigError(
            f"The attention window is {attention_window} cells; expected up to {largest}, as many "
            f"as {model.name} was trained on (0 = no windows)."
        )
    image = ImageGraph(visual, mean=model.mean, std=model.std)
    return Towers(image=image.eval(), text=TextEncoder(model.model).eval())


def prove_graphs(
    bundle: Bundle,
    model: ClipModel,
    towers: Towers,
    *,
    photos: Sequence[npt.NDArray[np.uint8]] = (),
) -> list[dict[str, Any]]:
    """Compare our modules with open_clip, and the graphs on disk with our modules.

    Raises:
        ParityError: they differ by more than the limits.
    """
    tower, limits = towers.image.tower, parity.Limits()
    tokens = text_cases(model.tokenizer())
    plain = build_towers(model, tower.readout)  # open_clip knows no other strides and no windows
    known = Cases(images=image_batches(tower.trained_size, photos)[1:], tokens=tokens)
    reference = parity.TorchReference(plain.image, plain.text)
    ours = parity.prove_reference(reference, model.model, plain.image, known)
    images = image_cases(trained_size=tower.trained_size, multiple=tower.multiple, photos=photos)
    ort, reference = OrtBackend(bundle), parity.TorchReference(towers.image, towers.text)
    graphs = parity.prove(ort, reference, Cases(images=images, tokens=tokens), limits=limits)
    return [
        parity.report("modules against open_clip", ours, parity.AGAINST_OPEN_CLIP),
        parity.report(f"onnxruntime {version('onnxruntime')}, {ort.device}", graphs, limits),
    ]


def _write_graphs(folder: Path, towers: Towers, *, largest_file: int) -> str:
    """Write both graphs; return how their weights are stored."""
    storage = set()
    for name in (IMAGE_ENCODER, TEXT_ENCODER):
        image = name == IMAGE_ENCODER
        graph = image_to_onnx(towers.image) if image else text_to_onnx(towers.text)
        store_weights(graph)
        storage.update(weight_storage(graph).split("+"))
        save_graph(graph, folder / name, largest=largest_file)
    return "+".join(sorted(storage - {""})) or "fp32"


def _write_model(folder: Path, model: ClipModel, *, weights: bool) -> None:
    """Write tokenizer, configuration, weights if wanted, and the texts that go with them."""
    model.write_tokenizer(folder)
    if weights:
        save_file(compact_state(model.model.state_dict()), folder / WEIGHTS)
        (folder / WEIGHTS).chmod(0o644)  # safetensors writes files that only their owner can read
    _write_json(folder / MODEL_CONFIG, dict(model.config))
    for pattern in _CARRIED:
        for text in model.folder.glob(pattern) if model.folder else ():
            shutil.copyfile(text, folder / text.name)


def _manifest(
    model: ClipModel, towers: Towers, *, storage: str, license_id: str | None
) -> Manifest:
    """Everything but the file records."""
    return make_manifest(
        model,
        towers.image.tower,
        towers.text,
        opset=OPSET,
        license_id=license_id,
        weight_storage=storage,
        tools={"atas-deploy": __version__} | {name: version(name) for name in _TOOLS},
    )


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    complete = replace(manifest, files=record_files(folder))
    (folder / MANIFEST).write_text(complete.to_json(), encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""Write a model as a bundle: graphs, proof, tokenizer, weights, manifest; all of it or nothing."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from safetensors import SafetensorError
from safetensors.torch import save_file

from atas_deploy import __version__
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.bundle import (
    FORMAT,
    IMAGE_ENCODER,
    LICENSE_TEXTS,
    MANIFEST,
    MERGES,
    MODEL_CONFIG,
    PARITY,
    TEXT_ENCODER,
    WEIGHTS,
    Bundle,
    Manifest,
    record_files,
)
from atas_deploy.core.errors import ExportError, OutputError
from atas_deploy.core.files import output_error, part_path
from atas_deploy.export import parity
from atas_deploy.export.cases import Cases, image_cases, text_cases
from atas_deploy.export.storage import compact_state, store_weights, weight_storage
from atas_deploy.export.to_onnx import OPSET, ImageGraph, image_to_onnx, text_to_onnx

_TOOLS = ("torch", "open_clip_torch", "onnx", "onnxscript")
_CARRIED = (*LICENSE_TEXTS, "MODEL_CARD.md", "README.md")
_SHORT_SIDE = 336
_LARGEST_PROTO = 2**31 - 1


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
    force: bool = False,
    photos: Sequence[npt.NDArray[np.uint8]] = (),
    license_id: str | None = None,
) -> Bundle:
    """Export a model, compare the graphs with PyTorch, and write the bundle.

    Args:
        model: what to export.
        out: folder to write; an existing bundle there stays valid until the new one is complete.
        readout: how dense features are read; by default as the model records, else sclip.
        force: replace an existing bundle.
        photos: (H, W, 3) uint8 RGB images to compare on, besides synthetic ones.
        license_id: SPDX expression of the weights; by default as the model records.

    Returns:
        The bundle written.

    Raises:
        ConfigError: the model or the read-out is not supported.
        ExportError: the model cannot be turned into ONNX.
        ParityError: a graph does not compute what the model computes; nothing is written.
        OutputError: the folder exists, or cannot be written.
    """
    towers = build_towers(model, readout or default_readout(model))
    with _new_folder(out, force=force) as folder:
        storage = _write_graphs(folder, towers)
        _write_model(folder, model)
        manifest = _manifest(model, towers, storage=storage, license_id=license_id)
        stages = prove_graphs(Bundle(folder, manifest), model, towers, photos=photos)
        inputs = f"noise, a colour gradient, a flat colour and {len(photos)} photos; 3 texts"
        proof = {"reference": "PyTorch, float32, CPU", "inputs": inputs, "stages": stages}
        _write_json(folder / PARITY, proof)
        _write_manifest(folder, manifest)
        Bundle.open(folder).verify()
    return Bundle.open(out)


def default_readout(model: ClipModel) -> str:
    """The read-out that the model records as its best, else sclip."""
    return str(model.record.get("readout", "sclip"))


def build_towers(model: ClipModel, readout: str) -> Towers:
    """The modules to export; they share the model's weights.

    Raises:
        ConfigError: the model or the read-out is not supported.
    """
    visual = DenseViT(model.model.visual, readout)
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
    images = image_cases(
        patch_size=tower.patch_size, trained_grid=tower.trained_grid, photos=photos
    )
    cases = Cases(images=images, tokens=text_cases(model.tokenizer()))
    reference = parity.TorchReference(towers.image, towers.text)
    size = tower.trained_grid[0] * tower.patch_size, tower.trained_grid[1] * tower.patch_size
    ours = parity.prove_reference(reference, model.model, towers.image, cases, size=size)
    ort = OrtBackend(bundle)
    graphs = parity.prove(ort, reference, cases, limits=limits)
    return [
        parity.report("modules against open_clip", ours, limits),
        parity.report(f"onnxruntime {version('onnxruntime')}, {ort.device}", graphs, limits),
    ]


def _write_graphs(folder: Path, towers: Towers) -> str:
    """Write both graphs; return how their weights are stored."""
    storage = set()
    for name, proto in (
        (IMAGE_ENCODER, image_to_onnx(towers.image)),
        (TEXT_ENCODER, text_to_onnx(towers.text)),
    ):
        store_weights(proto)
        if proto.ByteSize() > _LARGEST_PROTO:
            raise ExportError(
                f"The graph {name} is larger than 2 GB, more than one ONNX file can hold; "
                "use a smaller model or weights that fit float16."
            )
        onnx.save(proto, folder / name)
        storage.update(weight_storage(proto).split("+"))
    return "+".join(sorted(storage - {""})) or "fp32"


def _write_model(folder: Path, model: ClipModel) -> None:
    """Write tokenizer, weights, configuration and the texts that go with the weights."""
    (folder / MERGES).parent.mkdir()
    shutil.copyfile(model.merges, folder / MERGES)
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
    tower = towers.image.tower
    bias = getattr(model.model, "logit_bias", None)
    return Manifest(
        name=model.name,
        architecture=model.architecture,
        readout=tower.readout,
        patch_size=tower.patch_size,
        embed_dim=tower.embed_dim,
        context_length=towers.text.context_length,
        logit_scale=float(model.model.logit_scale.detach().exp()),
        logit_bias=None if bias is None else float(bias.detach()),
        mean=model.mean,
        std=model.std,
        opset=OPSET,
        license=license_id or str(model.record.get("license", "NOASSERTION")),
        short_side=int(model.record.get("short_side", _SHORT_SIDE)),
        weight_storage=storage,
        tools={"atas-deploy": __version__} | {name: version(name) for name in _TOOLS},
        provenance=model.record.get("provenance", {}),
    )


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    complete = replace(manifest, files=record_files(folder))
    (folder / MANIFEST).write_text(complete.to_json(), encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `out` if the block succeeds."""
    try:
        _check_target(out, force=force)
        out.parent.mkdir(parents=True, exist_ok=True)
        with _swapped_in(Path(os.path.realpath(out))) as part:
            yield part
    except OutputError:
        raise
    except (OSError, SafetensorError) as exc:
        raise output_error(out, exc) from exc


@contextmanager
def _swapped_in(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out`, a real path, that takes its place if the block succeeds."""
    part, old = part_path(out), part_path(out)
    try:
        part.mkdir()
        yield part
        if out.exists():
            out.rename(old)
        part.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for leftover in (part, old):
            with suppress(OSError):
                shutil.rmtree(leftover)


def _check_target(out: Path, *, force: bool) -> None:
    """Refuse to overwrite anything but a bundle, and a bundle only by force."""
    if Path.cwd().is_relative_to(os.path.realpath(out)):  # replaced, it would vanish under the user
        raise OutputError(f"{out} holds the folder you are in; choose another --out.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_bundle(out):
        raise OutputError(f"{out} exists and is not a bundle; choose another --out.")
    if not force:
        raise OutputError(f"{out} exists; add --force to replace it, or choose another --out.")


def _is_bundle(folder: Path) -> bool:
    """Tell by its manifest whether a folder is a bundle, of any version and even if damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT

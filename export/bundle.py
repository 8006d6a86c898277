"""Write a model as a bundle: graphs, proof, tokenizer, weights, manifest; all of it or nothing."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import save_file

from atas_deploy import __version__
from atas_deploy.clip.folder import copy_texts
from atas_deploy.clip.manifest import encoder_settings, make_manifest
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import (
    IMAGE_ENCODER,
    LICENSE_TEXTS,
    MANIFEST,
    MODEL_CONFIG,
    PARITY,
    REFERENCE,
    TEXT_DATA,
    TEXT_ENCODER,
    WEIGHTS,
    Bundle,
    Manifest,
    record_files,
)
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.files import PART_SUFFIX
from atas_deploy.core.proof import write_reference
from atas_deploy.export.folder import new_folder
from atas_deploy.export.fused import write_cpu_graph
from atas_deploy.export.lower import OPSETS, lower
from atas_deploy.export.prove import Prover, prove_here
from atas_deploy.export.stages import Inputs, prove_cpu_graph, prove_graphs
from atas_deploy.export.storage import (
    LARGEST_FILE,
    compact_state,
    save_graph,
    store_weights,
    weight_storage,
)
from atas_deploy.export.to_onnx import image_to_onnx, text_to_onnx
from atas_deploy.export.towers import Towers, build_towers

_TOOLS = ("torch", "open_clip_torch", "onnx", "onnxscript")
_CARRIED = (*LICENSE_TEXTS, "MODEL_CARD.md", "README.md")


def export_bundle(  # noqa: PLR0913  (the options of the command)
    model: ClipModel,
    out: Path,
    *,
    readout: str | None = None,
    stride: int | None = None,
    attention_window: int | None = None,
    precision: str = "fp32",
    weights: bool = True,
    force: bool = False,
    photos: Sequence[npt.NDArray[np.uint8]] = (),
    license_id: str | None = None,
    reference_sizes: Sequence[tuple[int, int, int]] = (),
    largest_file: int = LARGEST_FILE,
    prover: Prover = prove_here,
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
        precision: of the image encoder's arithmetic: fp32, fp16 or bf16.
        weights: whether to keep the weights in the bundle, to train on or to export again.
        force: replace an existing bundle.
        photos: (H, W, 3) uint8 RGB images to compare on, besides synthetic ones.
        license_id: SPDX expression of the weights; by default as the model records.
        reference_sizes: (B, H, W) of further images in the bundle's reference, for engines that
            take no other sizes.
        largest_file: bytes of weights that an ONNX file may hold; beyond, they lie beside it.
        prover: runs the graphs, in this process or in another one, see `export/prove.py`.

    Returns:
        The bundle written.

    Raises:
        ConfigError: the model, the read-out or the precision is not supported.
        ExportError: the model cannot be turned into ONNX, or the graphs cannot be run.
        ParityError: a graph does not compute what the model computes; nothing is written.
        OutputError: the folder exists, or cannot be written.
    """
    if precision not in OPSETS:
        raise ConfigError(f"The precision is {precision!r}; expected {', '.join(OPSETS)}.")
    settings = encoder_settings(
        model, readout=readout, stride=stride, attention_window=attention_window
    )
    towers = build_towers(model, **settings)
    inputs = Inputs(photos=photos, sizes=reference_sizes)
    with new_folder(out, force=force) as folder, _work_beside(folder) as work:
        facts = _write_graphs(folder, work, towers, precision=precision, largest_file=largest_file)
        _write_model(folder, model, weights=weights)
        manifest = _manifest(model, towers, license_id=license_id, precision=precision, **facts)
        unlowered = Bundle(work, replace(manifest, precision="fp32"))
        stages, reference = prove_graphs(
            Bundle(folder, manifest),
            model,
            towers,
            unlowered=None if precision == "fp32" else unlowered,
            inputs=inputs,
            prover=prover,
        )
        if precision == "fp32" and write_cpu_graph(folder):
            stages.append(prove_cpu_graph(Bundle(folder, manifest), reference, prover=prover))
        stored_as = "float32" if precision == "fp32" else "float16"
        write_reference(folder / REFERENCE, reference, features=stored_as)
        proof = {"reference": "PyTorch, float32, CPU", "inputs": inputs.describe()}
        _write_json(folder / PARITY, {**proof, "stages": stages})
        _write_manifest(folder, manifest)
        Bundle.open(folder).verify()
    return Bundle.open(out)


@contextmanager
def _work_beside(folder: Path) -> Iterator[Path]:
    """Yield a folder for graphs that do not stay, on the same disk."""
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=folder.name, suffix=PART_SUFFIX
    ) as work:
        yield Path(work)


def _write_graphs(
    folder: Path, work: Path, towers: Towers, *, precision: str, largest_file: int
) -> dict[str, Any]:
    """Write both graphs, and in another precision than fp32 what they were before into `work`.

    In fp32 the weights of the image encoder get a file of their own, which two graphs share.

    Returns:
        How their weights are stored, and the opset of the image encoder.
    """
    image, text = image_to_onnx(towers.image), text_to_onnx(towers.text)
    store_weights(text)
    save_graph(text, folder / TEXT_ENCODER, largest=largest_file)
    if precision == "fp32":
        store_weights(image)
        save_graph(image, folder / IMAGE_ENCODER, largest=0)
    else:
        save_graph(image, work / IMAGE_ENCODER, largest=largest_file)
        for name in (TEXT_ENCODER, TEXT_DATA):
            if (folder / name).exists():
                shutil.copyfile(folder / name, work / name)
        image = lower(image, precision)
        save_graph(image, folder / IMAGE_ENCODER, largest=largest_file)
    stored = {kind for graph in (image, text) for kind in weight_storage(graph).split("+")}
    kept = "+".join(sorted(stored - {""})) or "fp32"
    return {"weight_storage": kept, "opset": image.opset_imports[""]}


def _write_model(folder: Path, model: ClipModel, *, weights: bool) -> None:
    """Write tokenizer, configuration, weights if wanted, and the texts that go with them."""
    model.write_tokenizer(folder)
    if weights:
        save_file(compact_state(model.model.state_dict()), folder / WEIGHTS)
        (folder / WEIGHTS).chmod(0o644)  # safetensors writes files that only their owner can read
    _write_json(folder / MODEL_CONFIG, dict(model.config))
    copy_texts(model.folder, folder, _CARRIED)


def _manifest(
    model: ClipModel, towers: Towers, *, license_id: str | None = None, **facts: Any
) -> Manifest:
    """Everything but the file records."""
    return make_manifest(
        model,
        towers.image.tower,
        towers.text,
        license_id=license_id,
        tools={"atas-deploy": __version__} | {name: version(name) for name in _TOOLS},
        **facts,
    )


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    complete = replace(manifest, files=record_files(folder))
    (folder / MANIFEST).write_text(complete.to_json(), encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

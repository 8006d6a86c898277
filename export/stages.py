"""The stages of the proof: after every conversion, and of the files as they were written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from atas_deploy.backends.base import ImageFeatures
from atas_deploy.backends.ort_device import installed_packages
from atas_deploy.clip.model import ClipModel
from atas_deploy.core.bundle import IMAGE_ENCODER, Bundle
from atas_deploy.core.comparison import LIMITS, report
from atas_deploy.core.proof import Reference, prove_images
from atas_deploy.export import parity
from atas_deploy.export.cases import (
    Cases,
    image_batches,
    image_cases,
    stored_cases,
    text_cases,
)
from atas_deploy.export.op_by_op import RANGE, OpByOp, Seen, check_range
from atas_deploy.export.prove import Prover, prove_here
from atas_deploy.export.towers import Towers, build_towers

_CURES = {
    "fp32": "nothing was written, please report it with the model's name",
    "fp16": "nothing was written, export with --precision bf16 or fp32",
    "bf16": "nothing was written, export with --precision fp32",
}
Stages = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What the graphs are proved on.

    Attributes:
        photos: (H, W, 3) uint8 RGB images, besides synthetic ones; they are never stored.
        sizes: (B, H, W) of further synthetic batches, which are stored with the others.
    """

    photos: Sequence[npt.NDArray[np.uint8]] = ()
    sizes: Sequence[tuple[int, int, int]] = ()

    def describe(self) -> str:
        """For parity.json."""
        return (
            f"colour tiles, noise and flat colours, up to 8 in a batch, and {len(self.photos)} "
            "photos; 3 texts"
        )


def prove_graphs(
    bundle: Bundle,
    model: ClipModel,
    towers: Towers,
    *,
    unlowered: Bundle | None = None,
    inputs: Inputs | None = None,
    prover: Prover = prove_here,
) -> tuple[Stages, Reference]:
    """Compare our modules with open_clip, and the graphs on disk with our modules.

    Args:
        bundle: the graphs as written, and the manifest that they will have.
        model: the open_clip model.
        towers: our modules.
        unlowered: the graphs before they were lowered to another precision than float32.
        inputs: None = synthetic images only.
        prover: runs graphs in ONNX Runtime.

    Returns:
        The stages for parity.json, and the reference that goes into the bundle.

    Raises:
        ParityError: they differ by more than the limits.
        ExportError: a graph cannot be run.
    """
    inputs = inputs or Inputs()
    stages = [_against_open_clip(model, towers, inputs)]
    stored, every = _references(model, towers, inputs, short_side=bundle.manifest.short_side)
    engine, precision = f"onnxruntime {_version()}, cpu", bundle.manifest.precision
    if unlowered:
        stage, limits = f"float32 graphs, {engine}", LIMITS["fp32"]
        found = prover(unlowered, every, stage, limits, _CURES["fp32"])
        stages.append(report(stage, found, limits))
        stages.append(_op_by_op(bundle, unlowered, _some(every, stored)))
    if precision != "bf16":  # ONNX Runtime has no product of bfloat16 on the CPU
        stage, limits = f"files as written, {engine}", LIMITS[precision]
        found = prover(bundle, every, stage, limits, _CURES[precision])
        stages.append(report(stage, found, limits))
    return stages, stored


def prove_cpu_graph(
    bundle: Bundle, reference: Reference, *, prover: Prover = prove_here
) -> dict[str, Any]:
    """Compare the graph that ONNX Runtime runs on the CPU, in float32, with our modules.

    Args:
        bundle: as for `prove_graphs`, that graph written.
        reference: of `prove_graphs`.
        prover: runs it.

    Returns:
        The stage for parity.json.

    Raises:
        ParityError: it differs by more than the limits.
        ExportError: it cannot be run.
    """
    stage, limits = f"graph for the CPU, onnxruntime {_version()}", LIMITS["fp32"]
    return report(stage, prover(bundle, reference, stage, limits, _CURES["fp32"]), limits)


def _version() -> str:
    """Of ONNX Runtime, by whichever distribution it is installed."""
    return next(iter(installed_packages().values()), "?")


def _against_open_clip(model: ClipModel, towers: Towers, inputs: Inputs) -> dict[str, Any]:
    """Our modules as open_clip knows the model: with no other stride and no windows."""
    tower = towers.image.tower
    plain = build_towers(model, tower.readout)
    images = image_batches(tower.trained_size, inputs.photos)[1:]
    known = Cases(images=images, tokens=text_cases(model.tokenizer()))
    reference = parity.TorchReference(plain.image, plain.text)
    found = parity.prove_reference(reference, model.model, plain.image, known)
    return report("modules against open_clip", found, parity.AGAINST_OPEN_CLIP)


def _references(
    model: ClipModel, towers: Towers, inputs: Inputs, *, short_side: int
) -> tuple[Reference, Reference]:
    """What PyTorch computes: of the cases that are stored, and of all."""
    tower, backend = towers.image.tower, parity.TorchReference(towers.image, towers.text)
    size, multiple, tokenizer = tower.trained_size, tower.multiple, model.tokenizer()
    few = stored_cases(
        trained_size=size, multiple=multiple, short_side=short_side, sizes=inputs.sizes
    )
    cases = Cases(images=few, tokens=text_cases(tokenizer))
    stored = parity.make_reference(backend, cases, tokenizer=tokenizer)
    more = image_cases(trained_size=size, multiple=multiple, photos=inputs.photos)
    return stored, parity.with_images(stored, backend, more)


def _some(every: Reference, stored: Reference) -> Reference:
    """The stored cases and all of the trained size: op by op, the others would take too long."""
    shapes = {images.shape for images in stored.images}
    size = stored.images[0].shape[1:3]
    return every.only(lambda shape: shape in shapes or shape[1:3] == size)


def _op_by_op(bundle: Bundle, unlowered: Bundle, reference: Reference) -> dict[str, Any]:
    """The image graph as written, each node in PyTorch with a result of its true type.

    What fp16 might overflow is looked for before features are compared: that tells more.
    """
    precision = bundle.manifest.precision
    limits, stage = LIMITS[precision], f"image graph as written, op by op in {precision}"
    lowered = OpByOp(ir.load(bundle.path / IMAGE_ENCODER))
    twin = OpByOp(ir.load(unlowered.path / IMAGE_ENCODER)) if precision == "fp16" else None
    largest: Seen | None = None

    def encode(images: npt.NDArray[np.uint8]) -> ImageFeatures:
        nonlocal largest
        features = lowered.run(images)
        if twin:
            twin.run(images)
            largest = check_range(lowered, twin)
        return features

    cure = _CURES[precision]
    found = prove_images(encode, reference, limits=limits, stage=stage, cure=cure)
    told = report(stage, found, limits)
    if largest:
        told["range"] = {"node": largest.node, "largest": largest.largest, "limit": RANGE}
    return told

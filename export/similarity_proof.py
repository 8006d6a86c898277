"""The proof of the similarity head: it must compute what numpy computes.

B images, C queries, H W pixels, h w grid, D embedding width
"""

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from atas_deploy.core.bundle import IMAGE_ENCODER, Bundle, Manifest
from atas_deploy.core.comparison import Comparison, compare, worst
from atas_deploy.core.errors import ParityError
from atas_deploy.export.cases import image_batches
from atas_deploy.export.similarity import SIMILARITY, head_alone

Features = npt.NDArray[np.float32]
_LIMITS = {"fp32": 1e-5, "fp16": 5e-3}
"""Largest difference of logits / s between the graph and numpy on the encoder's own features."""
_HEAD_LIMIT = 1e-6
_COUNTS = (1, 3, 133)


def prove_similarity(bundle: Bundle) -> list[dict[str, Any]]:
    """Compare the head alone, then the file on the disk, with numpy; stages for parity.json.

    A bf16 graph cannot run on the CPU: then the head, which is float32 in every precision, is all
    that runs.

    Raises:
        ParityError: a logit differs by more than the limit.
    """
    manifest, ort = bundle.manifest, f"onnxruntime {version('onnxruntime')}, cpu, against numpy"
    stages = [_stage(f"similarity head alone, {ort}", _head_alone_found(manifest), _HEAD_LIMIT)]
    limit = _LIMITS.get(manifest.precision)
    if limit is not None:
        stages.append(_stage(f"{SIMILARITY}, {ort}", _file_found(bundle, limit), limit))
    return stages


def _stage(name: str, found: list[Comparison], limit: float) -> dict[str, Any]:
    return {
        "stage": name,
        "unit": "logit scale",
        "limits": {"max_abs": limit},
        "worst": worst(found),
        "comparisons": [asdict(comparison) for comparison in found],
    }


def _head_alone_found(manifest: Manifest) -> list[Comparison]:
    """The head on unit features of several shapes."""
    session = _session(ir.to_proto(head_alone(manifest)).SerializeToString())
    rng, found = np.random.default_rng(0), []
    for batch, height, width in ((1, 1, 1), (2, 3, 5), (3, 7, 1)):
        dense = _units(rng, (batch, height, width, manifest.embed_dim))
        image = _units(rng, (batch, manifest.embed_dim))
        for count in _COUNTS:
            text = _texts(rng, count, manifest)
            got = session.run(None, {"dense": dense, "image": image, "text": text})
            expected = reference_logits(dense, image, text, manifest)
            found += _compared(dense.shape, got, expected, manifest, limit=_HEAD_LIMIT)
    return found


def _file_found(bundle: Bundle, limit: float) -> list[Comparison]:
    """The file, against numpy on the features that the image encoder of the bundle gives."""
    manifest, rng = bundle.manifest, np.random.default_rng(0)
    whole = _session(str(bundle.path / SIMILARITY))
    encoder = _session(str(bundle.path / IMAGE_ENCODER))
    found = []
    for (rows, columns), count in zip(((4, 4), (2, 5), (3, 1)), _COUNTS, strict=True):
        size = rows * manifest.multiple, columns * manifest.multiple
        for images in image_batches(size):
            dense, image = encoder.run(["dense", "image"], {"images": images})
            text = _texts(rng, count, manifest)
            got = whole.run(["logits", "image_logits"], {"images": images, "text": text})
            expected = reference_logits(dense, image, text, manifest)
            found += _compared(images.shape, got, expected, manifest, limit=limit)
    return found


def _compared(
    shape: tuple[int, ...], got: Any, expected: Any, manifest: Manifest, *, limit: float
) -> list[Comparison]:
    """Both outputs in units of s; NaN and other shapes are refused, too."""
    found = []
    for name, ours, numpys in zip(("logits", "image_logits"), got, expected, strict=True):
        a, b = (np.moveaxis(logits, 1, -1) / manifest.logit_scale for logits in (ours, numpys))
        comparison = compare(name, shape, a, b)
        if not comparison.max_abs <= limit:
            raise ParityError(
                f"The similarity head is not what numpy computes: output {name} for input "
                f"{' x '.join(map(str, shape))} differs by {comparison.max_abs:.3g} times the "
                f"logit scale, limit {limit:g}; nothing was written, please report it with the "
                "model's name."
            )
        found.append(comparison)
    return found


def reference_logits(dense: Features, image: Features, text: Features, manifest: Manifest) -> Any:
    """What the head computes, in numpy and float64.

    Args:
        dense: (B, h, w, D).
        image: (B, D).
        text: (C, D), of any length but 0.
        manifest: knows s and b.

    Returns:
        logits (B, C, h, w) and image_logits (B, C), float64.
    """
    unit = text.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    scale, bias = manifest.logit_scale, manifest.logit_bias or 0.0
    logits = scale * np.einsum("bhwd,cd->bchw", dense.astype(np.float64), unit) + bias
    return logits, scale * image.astype(np.float64) @ unit.T + bias


def _units(rng: np.random.Generator, shape: tuple[int, ...]) -> Features:
    values = rng.standard_normal(shape, dtype=np.float32)
    units: Features = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return units


def _texts(rng: np.random.Generator, count: int, manifest: Manifest) -> Features:
    """Embeddings of several lengths, (C, D)."""
    lengths = rng.uniform(0.1, 10, (count, 1)).astype(np.float32)
    texts: Features = lengths * _units(rng, (count, manifest.embed_dim))
    return texts


def _session(graph: bytes | str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

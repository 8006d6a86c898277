"""ONNX graphs of a CLIP model.

    images  uint8 (batch, height, width, 3) RGB -> dense (batch, grid_height, grid_width, D),
                                                   image (batch, D)
    tokens  int64 (texts, length)               -> text (texts, D)

Arithmetic is float32, all outputs are L2-normalised. Every named dimension is dynamic, but length
where the text tower reads whole rows; height and width are multiples of the patch size.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset20 as op
from torch import Tensor, nn

from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import TextEncoder
from atas_deploy.core.errors import ExportError, first_sentence

OPSET = 20
IMAGE_DIMS = {
    "images": ("batch", "height", "width", 3),
    "dense": ("batch", "grid_height", "grid_width", None),
    "image": ("batch", None),
}
TEXT_DIMS: dict[str, tuple[str | int | None, ...]] = {
    "tokens": ("texts", "length"),
    "text": ("texts", None),
}
_Dims = Mapping[str, tuple[str | int | None, ...]]


def image_to_onnx(graph: ImageGraph) -> ir.Model:
    """Export the image encoder.

    Raises:
        ExportError: PyTorch cannot trace or translate the model.
    """
    step = graph.tower.multiple
    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    shapes = {0: torch.export.Dim("batch"), 1: step * rows, 2: step * columns}
    # Two images, not square: sizes 0 and 1 and equal sides would be taken for constants.
    images = torch.zeros((2, 3 * step, 5 * step, 3), dtype=torch.uint8)
    return _to_onnx(graph, images, dynamic={"images": shapes}, dims=IMAGE_DIMS)


def text_to_onnx(encoder: TextEncoder) -> ir.Model:
    """Export the text encoder.

    Raises:
        ExportError: PyTorch cannot trace or translate the model.
    """
    context = encoder.context_length
    shapes, dims = {0: torch.export.Dim("texts")}, TEXT_DIMS
    if encoder.full_rows:
        length, dims = context, dims | {"tokens": ("texts", None)}
    else:
        length, shapes[1] = min(5, context), torch.export.Dim("length", min=2, max=context)
    tokens = torch.zeros((2, length), dtype=torch.int64)
    return _to_onnx(encoder, tokens, dynamic={"tokens": shapes}, dims=dims)


def _to_onnx(
    module: nn.Module, example: Tensor, *, dynamic: dict[str, Any], dims: _Dims
) -> ir.Model:
    """Trace a module with one input, the first of `dims`, and tidy the graph."""
    first, *outputs = dims
    try:
        with _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                input_names=[first],
                output_names=outputs,
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                custom_translation_table=_TRANSLATIONS,
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as exc:
        reason = first_sentence(exc)
        raise ExportError(
            f"PyTorch cannot turn this model into ONNX ({reason}); check that its architecture is "
            "a plain CLIP ViT, or report the model's configuration."
        ) from exc
    assert program is not None
    return _tidy(program.model, dims)


def _attention(
    q: Any,
    k: Any,
    v: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax((q / sqrt(E)) k^T + mask) v, the pattern that engines fuse.

    PyTorch's own translation scales q and k both and transposes k by way of reshapes.
    """
    assert not any((dropout_p, is_causal, scale, enable_gqa)), "our modules use none of these"
    scaled = op.Mul(q, op.Constant(value_float=1 / math.sqrt(q.shape[-1])))
    logits = op.MatMul(scaled, op.Transpose(k, perm=(0, 1, 3, 2)))
    if attn_mask is not None:
        logits = op.Add(logits, attn_mask)
    return op.MatMul(op.Softmax(logits, axis=-1), v)


_TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.scaled_dot_product_attention.default: _attention
}


def _tidy(model: ir.Model, dims: _Dims) -> ir.Model:
    """Name the dimensions and drop notes of the exporter, such as paths of this machine's files."""
    graph = model.graph
    for value in (*graph.inputs, *graph.outputs):
        assert value.name is not None
        assert value.shape is not None
        names = zip(value.shape, dims[value.name], strict=True)
        value.shape = ir.Shape([axis if name is None else name for axis, name in names])
    for value in (value for node in graph for value in node.outputs):
        if not value.is_graph_output():
            value.shape = value.type = None  # readers infer them
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    for holder in (model, graph, *graph):
        holder.metadata_props.clear()
        holder.doc_string = None
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on its own inner workings."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

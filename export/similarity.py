"""`--head similarity`: pictures and text embeddings in, query logits out, in one graph.

For those who run no Python: ONNX Runtime alone is enough, from any language.

    images  uint8 (batch, height, width, 3) RGB -> logits (batch, queries, grid_height, grid_width),
    text    float32 (queries, D)                   image_logits (batch, queries)

    logits = s <dense, text / |text|> + b     s: logit_scale of the manifest, b: logit_bias or 0

The head computes in float32 whatever the precision of the encoder in front of it; text need not be
normalised. A row of zeros gives b. All of it holds for `text` of (batch, queries, D), too, one list
of words for each image, as servers want that put requests together.

    B images, C queries, h w grid, D embedding width
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from atas_deploy.core.bundle import Manifest

SIMILARITY = "similarity.onnx"
TEXT_DIMS = ("queries",)
TEXT_PER_IMAGE = ("batch", "queries")
_SMALLEST_LENGTH = 1e-12  # of a text embedding that is still divided by its length


def with_head(model: ir.Model, manifest: Manifest) -> ir.Model:
    """Put the head behind an image encoder, in place.

    Args:
        model: as `image_to_onnx` or `lower` gives it.
        manifest: knows s, b and D.
    """
    graph = model.graph
    dense, image = graph.outputs
    text = _input("text", (*TEXT_DIMS, manifest.embed_dim))
    tape = ir.tape.Tape()
    outputs = _head(tape, dense, image, text, manifest)
    graph.extend(tape.nodes)
    for value in tape.initializers:
        graph.register_initializer(value)
    graph.inputs.append(text)
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    return model


def head_alone(manifest: Manifest) -> ir.Model:
    """The head with features for inputs, as it is proved: dense (B, h, w, D) and image (B, D)."""
    width = manifest.embed_dim
    dense = _input("dense", ("batch", "grid_height", "grid_width", width))
    image, text = _input("image", ("batch", width)), _input("text", (*TEXT_DIMS, width))
    tape = ir.tape.Tape()
    outputs = _head(tape, dense, image, text, manifest)
    graph = ir.Graph(
        [dense, image, text],
        outputs,
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports={"": manifest.opset},
        name="similarity",
    )
    return ir.Model(graph, ir_version=10)


def text_per_image(model: ir.Model) -> ir.Model:
    """Let each image bring its own words, in place: text is (batch, queries, D).

    Args:
        model: as `with_head` gives it.
    """
    (text,) = (value for value in model.graph.inputs if value.name == "text")
    assert text.shape is not None
    text.shape = ir.Shape((*TEXT_PER_IMAGE, text.shape[-1]))
    return model


def _head(
    tape: ir.tape.Tape, dense: ir.Value, image: ir.Value, text: ir.Value, manifest: Manifest
) -> list[ir.Value]:
    """Nodes of the head: logits and image_logits."""

    def number(name: str, value: Any, kind: Any = np.float32) -> ir.Value:
        return tape.initializer(ir.tensor(np.array(value, kind), name=f"similarity.{name}"))

    last = number("last", [-1], np.int64)
    length = tape.op("ReduceL2", [text, last], {"keepdims": 1})
    length = tape.op("Max", [length, number("smallest_length", _SMALLEST_LENGTH)])
    scale = number("scale", manifest.logit_scale)
    unit = tape.op("Mul", [tape.op("Div", [text, length]), scale])
    patches = tape.op("Transpose", [dense], {"perm": [0, 3, 1, 2]})
    keep, rest = number("keep", [0, 0], np.int64), number("rest", [0, 0, -1], np.int64)
    flat = tape.op("MatMul", [unit, tape.op("Reshape", [patches, rest])])
    grid = tape.op("Shape", [dense], {"start": 1, "end": 3})
    logits = tape.op("Reshape", [flat, tape.op("Concat", [keep, grid], {"axis": 0})])
    whole = tape.op("MatMul", [unit, tape.op("Unsqueeze", [image, last])])
    image_logits = tape.op("Squeeze", [whole, last])
    if manifest.logit_bias is not None:
        bias = number("bias", manifest.logit_bias)
        logits, image_logits = (tape.op("Add", [x, bias]) for x in (logits, image_logits))
    dims = ("batch", "queries", "grid_height", "grid_width")
    return [_named(logits, "logits", dims), _named(image_logits, "image_logits", dims[:2])]


def _input(name: str, dims: tuple[str | int, ...]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(ir.DataType.FLOAT))


def _named(value: ir.Value, name: str, dims: tuple[str, ...]) -> ir.Value:
    value.name, value.shape = name, ir.Shape(dims)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    return value

"""The image encoder for ONNX Runtime on the CPU: attention as one operator of its own.

The portable graph spells attention out, softmax((q / sqrt(E)) k^T) v, which other engines fuse.
ONNX Runtime's CPU does not: it writes the logits of all heads to memory and reads them back twice.
Its operator `MultiHeadAttention` goes through the keys in blocks that stay in the cache.

    B batch, K heads, Q queries, T tokens, E width of a head

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from pathlib import Path
from typing import NamedTuple

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
    ShapeInferencePass,
)

from atas_deploy.core.bundle import CPU_ENCODER, IMAGE_ENCODER

DOMAIN = "com.microsoft"
_SWAP = (0, 2, 1, 3)  # (B, K, T, E) <-> (B, T, K, E)
_TURN = (0, 2, 3, 1)  # (B, T, K, E) -> (B, K, E, T)


class _Attention(NamedTuple):
    """softmax((q * scale) k^T) v of a graph: (B, K, Q, E), (B, K, E, T), (B, K, T, E)."""

    q: ir.Value
    turned: ir.Node
    v: ir.Value
    scale: float
    out: ir.Node


def write_cpu_graph(folder: Path) -> bool:
    """Write the graph for the CPU beside the portable one, on the same file of weights.

    Args:
        folder: with the portable graph, whose weights are in a file of their own.

    Returns:
        Whether there is anything to fuse; if not, nothing is written.
    """
    fused = fuse_attention(ir.load(folder / IMAGE_ENCODER))
    if DOMAIN not in fused.opset_imports:
        return False
    onnx.save(ir.to_proto(fused), folder / CPU_ENCODER)
    return True


def fuse_attention(model: ir.Model) -> ir.Model:
    """Put `MultiHeadAttention` in the place of every plain attention of a graph.

    Attention with a mask stays as it is: the operator would write its logits to memory, too.

    Args:
        model: a float32 image encoder as `image_to_onnx` gives it; it stays as it is.

    Returns:
        A new graph, which shares its weights.
    """
    heads = _head_counts(model)
    fused = model.clone()
    for softmax in [node for node in fused.graph if node.op_type == "Softmax"]:
        attention = _match(softmax)
        if attention is not None and attention.q.name in heads:
            _replace(fused.graph, attention, heads=heads[attention.q.name])
    RemoveUnusedNodesPass()(fused)
    fused.opset_imports[DOMAIN] = 1
    RemoveUnusedOpsetsPass()(fused)
    return fused


def _head_counts(model: ir.Model) -> dict[str | None, int]:
    """K of every value (B, K, T, E)."""
    graph = ShapeInferencePass()(model.clone()).model.graph
    found = {}
    for value in (value for node in graph for value in node.outputs):
        if value.shape is not None and len(value.shape) == 4 and isinstance(value.shape[1], int):
            found[value.name] = value.shape[1]
    return found


def _match(softmax: ir.Node) -> _Attention | None:
    """The attention around a softmax, if it is the pattern without a mask."""
    logits, mixed = _made_by(softmax.inputs[0], "MatMul"), _only_reader(softmax, "MatMul")
    if logits is None or mixed is None:
        return None
    scaled, turned = _made_by(logits.inputs[0], "Mul"), _made_by(logits.inputs[1], "Transpose")
    if scaled is None or turned is None:
        return None
    (q, scale), v = scaled.inputs, mixed.inputs[1]
    if q is None or scale is None or scale.const_value is None or v is None:
        return None
    return _Attention(q, turned, v, float(scale.const_value.numpy()), mixed)


def _replace(graph: ir.Graph, found: _Attention, *, heads: int) -> None:
    """Insert the operator behind an attention, and give its result to the readers."""
    tape = ir.tape.Tape()
    q, v = (_as_tokens(tape, value) for value in (found.q, found.v))
    rows = [q, _keys(tape, found.turned), v]
    attributes = {"num_heads": heads, "scale": found.scale}
    context = tape.op("MultiHeadAttention", rows, attributes, domain=DOMAIN)
    merge = _only_reader(found.out, "Transpose")
    flat = _only_reader(merge, "Reshape") if merge else None
    if flat is None:
        shape = tape.op("Constant", [], {"value_ints": [0, 0, heads, -1]})
        split = tape.op("Reshape", [context, shape])
        context = tape.op("Transpose", [split], {"perm": _SWAP})
    replaced = (flat or found.out).outputs[0]
    graph.insert_after(found.out, tape.nodes)
    ir.convenience.replace_all_uses_with(replaced, context)


def _keys(tape: ir.tape.Tape, turned: ir.Node) -> ir.Value:
    """What was turned into (B, K, E, T), as (B, T, K * E)."""
    keys = turned.inputs[0]
    assert keys is not None
    return _merged(tape, keys) if _order(turned) == _TURN else _as_tokens(tape, keys)


def _as_tokens(tape: ir.tape.Tape, value: ir.Value) -> ir.Value:
    """(B, K, T, E) as (B, T, K * E)."""
    turned = _made_by(value, "Transpose")
    if turned is None or _order(turned) != _SWAP or turned.inputs[0] is None:
        return _merged(tape, tape.op("Transpose", [value], {"perm": _SWAP}))
    return _merged(tape, turned.inputs[0])


def _merged(tape: ir.tape.Tape, value: ir.Value) -> ir.Value:
    """(B, T, K, E) as (B, T, K * E): what the heads were split from, if it is there."""
    split = _made_by(value, "Reshape")
    if split is not None and split.inputs[0] is not None:
        return split.inputs[0]
    shape = tape.op("Constant", [], {"value_ints": [0, 0, -1]})
    return tape.op("Reshape", [value, shape])


def _order(transpose: ir.Node) -> tuple[int, ...]:
    return tuple(transpose.attributes["perm"].as_ints())


def _made_by(value: ir.Value | None, kind: str) -> ir.Node | None:
    """The node that makes a value, if it is of a kind."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == kind else None


def _only_reader(node: ir.Node, kind: str) -> ir.Node | None:
    """The one node that reads the result of another one, if it is of a kind."""
    readers = [reader for reader, _ in node.outputs[0].uses()]
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None

"""Half the file for the same arithmetic: weights that fit float16 exactly are stored as float16."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from atas_deploy.core.errors import ExportError

MIN_ELEMENTS = 4096
"""Smaller tensors stay as they are: a cast for each bias would cost more than it saves."""


def fits_fp16(values: npt.NDArray[np.float32]) -> bool:
    """Whether float32 -> float16 -> float32 gives the same bits, for every element."""
    with np.errstate(over="ignore"):
        back = values.astype(np.float16).astype(np.float32)
    return bool(np.array_equal(back.view(np.uint32), values.view(np.uint32)))


def store_weights(proto: onnx.ModelProto) -> int:
    """Store initialisers as float16 with a cast to float32, in place, where that is exact.

    Args:
        proto: a graph with float32 weights.

    Returns:
        The number of initialisers changed.
    """
    graph = proto.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_ELEMENTS:
            continue
        values = numpy_helper.to_array(tensor)
        if not fits_fp16(values):
            continue
        name, stored = tensor.name, f"{tensor.name}.fp16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(casts)


def weight_storage(proto: onnx.ModelProto) -> str:
    """The dtypes of a graph's weights: "fp16", "fp32", or both joined by a plus sign."""
    names = {TensorProto.FLOAT16: "fp16", TensorProto.FLOAT: "fp32"}
    large = (t for t in proto.graph.initializer if np.prod(t.dims) >= MIN_ELEMENTS)
    return "+".join(sorted({names[t.data_type] for t in large if t.data_type in names}))


def compact_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict whose float32 tensors are float16 where that is exact.

    Args:
        state: tensors by name.

    Returns:
        Contiguous copies on the CPU, by the same names.
    """
    compact = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous().clone()
        if tensor.dtype == torch.float32 and fits_fp16(np.atleast_1d(tensor.numpy())):
            tensor = tensor.half()
        compact[name] = tensor
    return compact


@torch.no_grad()
def round_weights(model: torch.nn.Module) -> None:
    """Round all float32 parameters and buffers to values that float16 holds, in place.

    Raises:
        ExportError: a weight is too large for float16.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dtype != torch.float32:
            continue
        rounded = tensor.half().float()
        if bool((rounded.isinf() & ~tensor.isinf()).any()):
            raise ExportError(
                f"The weight {name} reaches {float(tensor.abs().max()):.3g}, more than float16 "
                "holds (65504); export without --fp16-weights."
            )
        tensor.copy_(rounded)

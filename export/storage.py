"""Half the file for the same arithmetic: weights that fit float16 exactly are stored as float16."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch

from atas_deploy.core.errors import ExportError

MIN_ELEMENTS = 4096
"""Smaller tensors stay as they are: a cast for each bias would cost more than it saves."""
LARGEST_FILE = 2**31 - 2**24
"""Bytes of weights in one ONNX file: its format ends at 2 GiB, the graph itself needs some."""


def fits_fp16(values: npt.NDArray[np.float32]) -> bool:
    """Whether float32 -> float16 -> float32 gives the same bits, for every element."""
    with np.errstate(over="ignore"):
        back = values.astype(np.float16).astype(np.float32)
    return bool(np.array_equal(back.view(np.uint32), values.view(np.uint32)))


def store_weights(model: ir.Model) -> int:
    """Store initialisers as float16 with a cast to float32, in place, where that is exact.

    Args:
        model: a graph with float32 weights; none is copied before `save_graph` asks for it.

    Returns:
        The number of initialisers changed.
    """
    graph = model.graph
    casts = []
    for name, value in list(graph.initializers.items()):
        weight = value.const_value
        if weight is None or weight.dtype != ir.DataType.FLOAT or weight.size < MIN_ELEMENTS:
            continue
        if not fits_fp16(weight.numpy()):
            continue
        half, stored_name = ir.DataType.FLOAT16, f"{name}.fp16"
        stored = ir.Value(
            name=stored_name,
            shape=ir.Shape(weight.shape.numpy()),
            type=ir.TensorType(half),
            const_value=stored_as(weight, half, name=stored_name),
        )
        del graph.initializers[name]
        graph.register_initializer(stored)
        cast = ir.Node("", "Cast", [stored], [ir.AttrInt64("to", ir.DataType.FLOAT)])
        cast.outputs[0].name = name
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        casts.append(cast)
    if casts:
        graph.insert_before(graph[0], casts)
    return len(casts)


def stored_as(weight: ir.TensorProtocol, dtype: ir.DataType, *, name: str) -> ir.LazyTensor:
    """A weight rounded to another type; it is converted when it is read or written."""

    def convert() -> ir.TensorProtocol:
        return ir.tensor(weight.numpy().astype(dtype.numpy()), name=name)

    return ir.LazyTensor(convert, dtype=dtype, shape=ir.Shape(weight.shape.numpy()), name=name)


def weight_storage(model: ir.Model) -> str:
    """The dtypes of a graph's weights: "bf16", "fp16" and "fp32", joined by plus signs."""
    names = {
        ir.DataType.BFLOAT16: "bf16",
        ir.DataType.FLOAT16: "fp16",
        ir.DataType.FLOAT: "fp32",
    }
    large = (weight for weight in _weights(model) if weight.size >= MIN_ELEMENTS)
    return "+".join(sorted({names[weight.dtype] for weight in large if weight.dtype in names}))


def save_graph(model: ir.Model, path: Path, *, largest: int = LARGEST_FILE) -> None:
    """Write a graph; weights that one file cannot hold go into a second one, `path` + ".data".

    Args:
        model: the graph; its weights are read from the disk afterwards, if there is a second file.
        path: of the ONNX file.
        largest: bytes of weights that the ONNX file may hold.
    """
    if sum(weight.nbytes for weight in _weights(model)) > largest:
        data = f"{path.name}.data"
        ir.external_data.unload_from_model(
            model, path.parent, data, size_threshold_bytes=MIN_ELEMENTS
        )
    else:
        ir.external_data.load_to_model(model)
    onnx.save(ir.to_proto(model), path)


def _weights(model: ir.Model) -> list[ir.TensorProtocol]:
    values = model.graph.initializers.values()
    return [value.const_value for value in values if value.const_value is not None]


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

"""The ONNX operators that our graphs use, in PyTorch, each in the type of its inputs.

A product sums up in float32 and is rounded once, as matrix units of GPUs do it; PyTorch's own
product of float16 can take minutes on a CPU.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.core.errors import ExportError

Operator = Callable[..., Tensor | Sequence[Tensor]]
"""Takes inputs by place, None for one left out, and attributes by name."""

_CURE = "export with --precision fp32, or report the model's configuration"
_DTYPES = {1: torch.float32, 7: torch.int64, 10: torch.float16, 16: torch.bfloat16}  # ONNX's codes
_BICUBIC = {"mode": "cubic", "cubic_coeff_a": -0.75, "coordinate_transformation_mode": "half_pixel"}


def find_operator(name: str) -> Operator:
    """The function of an operator.

    Raises:
        ExportError: our graphs use no such operator.
    """
    if name not in OPERATORS:
        raise ExportError(
            f"The graph has the operator {name}, which the proof of fp16 and bf16 does not know; "
            f"{_CURE}."
        )
    return OPERATORS[name]


def _refusal(operator: str, use: str) -> ExportError:
    return ExportError(
        f"The graph has the operator {operator} with {use}, which the proof of fp16 and bf16 does "
        f"not know; {_CURE}."
    )


def _product(function: Callable[..., Tensor]) -> Operator:
    """Sum up in float32, round once."""

    def product(*inputs: Tensor, **attributes: Any) -> Tensor:
        return function(*(x.float() for x in inputs), **attributes).to(inputs[0].dtype)

    return product


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def reduce(x: Tensor, axes: Tensor, *, keepdims: int = 1, **_: int) -> Tensor:
        return function(x, dim=axes.tolist(), keepdim=bool(keepdims))

    return reduce


def _cast(x: Tensor, *, to: int) -> Tensor:
    if to not in _DTYPES:
        raise _refusal("Cast", f"the type {to}")
    return x.to(_DTYPES[to])


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x.clamp(low, high)


def _concat(*inputs: Tensor, axis: int) -> Tensor:
    return torch.cat(inputs, dim=axis)


def _constant(shape: Tensor, *, value: Tensor | None = None) -> Tensor:
    return (torch.zeros(1) if value is None else value).expand(shape.tolist())


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **given: Any) -> Tensor:
    if any(given["pads"]) or given["auto_pad"] != "NOTSET":
        raise _refusal("Conv", "padding")
    dilation, groups = given["dilations"], given["group"]
    return F.conv2d(x, weight, bias, given["strides"], dilation=dilation, groups=groups)


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(np.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis %= x.ndim
    picked = x.index_select(axis, indices.flatten() % x.shape[axis])
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def _layer_norm(x: Tensor, scale: Tensor, bias: Tensor | None = None, **given: Any) -> Tensor:
    return F.layer_norm(x, list(x.shape[given["axis"] :]), scale, bias, given["epsilon"])


def _pad(x: Tensor, pads: Tensor, *, mode: str = "constant") -> Tensor:
    before, behind = pads.reshape(2, -1).tolist()
    if mode != "edge" or x.ndim != 4 or any((*before[:2], *behind[:2])):
        raise _refusal("Pad", f"mode {mode} and {pads.tolist()}")
    return F.pad(x, (before[3], behind[3], before[2], behind[2]), mode="replicate")


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    sizes = shape.tolist()
    if not allowzero:
        sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def _resize(x: Tensor, roi: None, scales: None, sizes: Tensor, **given: Any) -> Tensor:
    if given["antialias"] or given["exclude_outside"] or not _BICUBIC.items() <= given.items():
        raise _refusal("Resize", "another interpolation than PyTorch's bicubic one")
    return F.interpolate(x, sizes.tolist()[2:], mode="bicubic", align_corners=False)


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, steps: Tensor) -> Tensor:
    parts = [slice(None)] * x.ndim
    for axis, *part in torch.stack([axes, starts, ends, steps], dim=1).tolist():
        parts[axis] = slice(*part)
    return x[tuple(parts)]


def _softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return x.softmax(axis)


def _split(x: Tensor, *, axis: int = 0, num_outputs: int) -> Sequence[Tensor]:
    return torch.split(x, -(-x.shape[axis] // num_outputs), dim=axis)


def _squeeze(x: Tensor) -> Tensor:
    return x.squeeze()


def _transpose(x: Tensor, *, perm: Sequence[int]) -> Tensor:
    return x.permute(*perm)


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


OPERATORS: Mapping[str, Operator] = {
    "Add": torch.add,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "ConstantOfShape": _constant,
    "Conv": _product(_conv),
    "Cos": torch.cos,
    "Div": _divide,
    "Exp": torch.exp,
    "Expand": _expand,
    "Gather": _gather,
    "Gelu": _gelu,
    "LayerNormalization": _layer_norm,
    "MatMul": _product(torch.matmul),
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Pad": _pad,
    "Pow": torch.pow,
    "Range": _range,
    "ReduceL2": _reduce(torch.linalg.vector_norm),
    "ReduceMean": _reduce(torch.mean),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": torch.sigmoid,
    "Sin": torch.sin,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

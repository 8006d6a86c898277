"""How many operations a second this machine does in a large matrix product."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from atas_deploy.backends.gpu import gpu_index, load_cupy
from atas_deploy.backends.ort_device import CPU, load_onnxruntime
from atas_deploy.backends.ort_threads import thread_count

_SIDE_CPU, _SIDE_GPU = 2_048, 8_192
_REPEATS = 6


def matrix_peak(device: str, precision: str, *, side: int | None = None) -> tuple[float, str]:
    """The fastest of several products of two square matrices.

    On the CPU by ONNX Runtime, with as many threads as the encoder has, in float32, in which it
    computes bundles of all precisions; on a GPU by cuBLAS, fp16 for fp16 and bf16, float32
    without TF32 otherwise.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        precision: of the bundle.
        side: of the matrices; None = 2,048 on the CPU, 8,192 on a GPU.

    Returns:
        Operations a second, a multiplication and an addition counted as two; what was measured.
    """
    if device == "cpu":
        side = side or _SIDE_CPU
        product = _product_on_cpu(side)
        what = "fp32 by ONNX Runtime"
    else:
        dtype = np.dtype(np.float32 if precision == "fp32" else np.float16)
        side = side or _SIDE_GPU
        product = _product_on_gpu(device, dtype, side)
        what = f"{dtype.name} by cuBLAS"
    best = min(_time(product) for _ in range(_REPEATS))
    return 2 * side**3 / best, f"{what}, {side} x {side} x {side}"


def _time(product: Callable[[], Any]) -> float:
    start = time.perf_counter()
    product()
    return time.perf_counter() - start


def _product_on_cpu(side: int) -> Callable[[], Any]:
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    session = onnxruntime.InferenceSession(_matmul_graph(), options, providers=[CPU])
    rng = np.random.default_rng(0)
    feed = {name: rng.random((side, side), np.float32) for name in "ab"}
    return lambda: session.run(None, feed)


def _product_on_gpu(device: str, dtype: np.dtype[Any], side: int) -> Callable[[], Any]:
    cupy = load_cupy(device)

    def product() -> None:
        cupy.matmul(a, b, out=c)
        cupy.cuda.get_current_stream().synchronize()

    cupy.cuda.Device(gpu_index(device)).use()
    a, b = (cupy.random.random((side, side)).astype(dtype) for _ in range(2))
    c = cupy.empty_like(a)
    product()  # cuBLAS is loaded
    return product


def _matmul_graph() -> bytes:
    """An ONNX model, c = a b in float32, as bytes: the package `onnx` is not needed for it.

    Source: onnx.proto3 of the ONNX project, for the numbers of the fields.
    """
    matrix = _tensor_type()
    values = [(11, _text(1, "a") + matrix), (11, _text(1, "b") + matrix)]
    values += [(12, _text(1, "c") + matrix)]
    node = _text(1, "a") + _text(1, "b") + _text(2, "c") + _text(4, "MatMul")
    graph = _field(1, node) + _text(2, "product")
    graph += b"".join(_field(number, value) for number, value in values)
    ir_version, opset = bytes([1 << 3, 8]), _field(8, bytes([2 << 3, 17]))
    return ir_version + _field(7, graph) + opset


def _tensor_type() -> bytes:
    """The field `type` of a value: a float32 matrix of any size."""
    shape = 2 * _field(1, b"")
    return _field(2, _field(1, bytes([1 << 3, 1]) + _field(2, shape)))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field of protocol buffers that holds bytes; up to 127 of them."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content

"""The matrix product that the encoder is compared with."""

import numpy as np
import onnx
import onnxruntime

from atas_deploy.bench import peak
from atas_deploy.bench.peak import matrix_peak


def test_the_graph_is_a_float32_matrix_product() -> None:
    """ONNX's own checker takes it, and it computes what numpy does."""
    graph = peak._matmul_graph()
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 5), np.float32), rng.random((5, 4), np.float32)
    (c,) = session.run(None, {"a": a, "b": b})
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-5)


def test_the_peak_counts_two_operations_for_each_product() -> None:
    """Of a small product here: what is told is 2 n^3 over a time that is not 0."""
    flops, what = matrix_peak("cpu", "fp16", side=64)
    assert what == "fp32 by ONNX Runtime, 64 x 64 x 64"
    assert 2 * 64**3 / flops < 10
    assert flops < 1e15

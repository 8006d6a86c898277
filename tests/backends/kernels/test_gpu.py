"""The kernels on a GPU against their twins; skipped where there is none."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atas_deploy.backends.gpu import load_cupy
from atas_deploy.backends.kernels import twins
from atas_deploy.backends.kernels.kernels import Kernels
from atas_deploy.core.errors import BackendUnavailableError


@pytest.fixture(scope="module")
def cupy() -> Any:
    """CuPy; skips where it or a GPU is missing."""
    try:
        return load_cupy("cuda")
    except BackendUnavailableError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def kernels(cupy: Any) -> Kernels:
    """Compiled for the GPU."""
    return Kernels(cupy)


def test_label_map_is_its_twin(cupy: Any, kernels: Kernels, cases: SimpleNamespace) -> None:
    """In 300 random cases, on every pixel that is no tie."""
    for seed in range(300):
        case = cases.label(seed)
        h, w, count = case.logits.shape
        inputs = [
            cupy.asarray(array)
            for array in (case.dense, case.queries, case.query_class, np.array([count], "i4"))
        ]
        out = (
            cupy.empty(case.size, case.dtype),
            cupy.empty((h, w), np.int32),
            cupy.empty((h, w), np.float32),
        )
        plan = kernels.plan_labels((h, w), case.size, capacity=count)
        kernels.label_map(*inputs, *out, threshold=case.threshold, plan=plan)
        labels, winners, probability = (array.get() for array in out)
        expected, clear = cases.formula(case)
        np.testing.assert_array_equal(labels[clear], expected[clear], err_msg=f"case {seed}")
        np.testing.assert_array_equal(winners, case.logits.argmax(axis=2))
        top = twins.label_logits(case.logits, case.query_class, size=case.size)[2]
        np.testing.assert_allclose(probability, top, rtol=1e-5)


def test_frames_that_are_captured_are_computed_anew(
    cupy: Any, kernels: Kernels, cases: SimpleNamespace
) -> None:
    """A graph of all kernels reads what lies in the same memory when it is launched."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        frames = cupy.zeros((1, 90, 160, 3), np.uint8)
        fitted = cupy.empty((1, 64, 96, 3), np.uint8)
        labels, palette = cupy.zeros((64, 96), np.uint8), cupy.full((2, 3), 200, np.uint8)
        out = cupy.empty((64, 96, 3), np.uint8)
        resize, blend = kernels.plan_resize((90, 160), (64, 96)), kernels.plan_blend((64, 96))

        def enqueue() -> None:
            kernels.resize(frames, fitted, plan=resize)
            kernels.blend(fitted[0], labels, palette, out, opacity=0.5, plan=blend)

        enqueue()
        stream.begin_capture()
        enqueue()
        graph = stream.end_capture()
        picture = np.random.default_rng(0).integers(0, 256, (1, 90, 160, 3), np.uint8)
        classes = (np.indices((64, 96)).sum(axis=0) // 20 % 2).astype(np.uint8)
        frames.set(picture)
        labels.set(classes)
        graph.launch(stream)
        expected = twins.blend(
            twins.resize(picture, (64, 96))[0], classes, palette.get(), opacity=0.5
        )
        np.testing.assert_array_equal(out.get(), expected)


def test_product_is_the_matrix_product(cupy: Any, kernels: Kernels) -> None:
    """Of the sizes of an encoder, with sums of float32."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(28, 50, 512)).astype("f4"), rng.normal(size=(512, 150)).astype("f4")
    out = cupy.empty((28, 50, 150), np.float32)
    kernels._product(cupy.asarray(a), cupy.asarray(b), out)
    np.testing.assert_allclose(out.get(), a.astype(float) @ b, atol=1e-3)


def test_pictures_are_those_of_the_twins(
    cupy: Any, kernels: Kernels, cases: SimpleNamespace
) -> None:
    """Resized, tinted and converted, bit by bit."""
    for seed in range(100):
        image, labels, palette = cases.picture(seed)
        size = seed % 7 + labels.shape[0] // 2 + 1, seed % 5 + labels.shape[1] // 2 + 1
        fitted, out = cupy.empty((1, *size, 3), np.uint8), cupy.empty(image.shape, np.uint8)
        on_gpu = [cupy.asarray(array) for array in (image, labels, palette)]
        kernels.resize(on_gpu[0][None], fitted, plan=kernels.plan_resize(labels.shape, size))
        np.testing.assert_array_equal(fitted.get(), twins.resize(image[None], size))
        kernels.blend(*on_gpu, out, opacity=0.55, plan=kernels.plan_blend(labels.shape))
        np.testing.assert_array_equal(out.get(), twins.blend(image, labels, palette, opacity=0.55))
        height, width = labels.shape
        luma, chroma = (
            image[..., 0].copy(),
            np.resize(image, ((height + 1) // 2, width + width % 2)),
        )
        kernels.nv12_to_rgb(cupy.asarray(luma), cupy.asarray(chroma), out, matrix="bt709")
        np.testing.assert_array_equal(out.get(), twins.nv12_to_rgb(luma, chroma, matrix="bt709"))

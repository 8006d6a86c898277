"""The sources of the kernels, compiled and run on the host, against their twins.

This finds what is wrong in a kernel: indices, edges, barriers, ties, lists that are full. What only
a GPU can show stays open: its rounding of exponentials, its launches and their speed.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atas_deploy.backends.kernels import kernels as module
from atas_deploy.backends.kernels import plans, twins

LAUNCHES = [
    {"threads": 1, "blocks": 1},
    {"threads": 7, "blocks": 3},
    {"threads": 32, "blocks": 5, "backwards": True},
    {},
]


@pytest.fixture(params=range(len(LAUNCHES)), ids=lambda index: str(LAUNCHES[index]))
def launch(request: pytest.FixtureRequest, host: Any) -> int:
    """A way to launch all kernels; its number, as a seed."""
    for name, value in LAUNCHES[request.param].items():
        setattr(host, name, value)
    return int(request.param)


def label(host: Any, case: Any, *, spare: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run the label map's kernels, with room for some more queries, which hold anything."""
    h, w, count = case.logits.shape
    queries = np.full((h * w, count + spare), 1e6, np.float32)
    queries[:, :count] = case.queries
    query_class = np.full(count + spare, 77, np.int32)
    query_class[:count] = case.query_class
    out = host.empty(case.size, case.dtype), host.empty((h, w), np.int32), host.empty((h, w), "f4")
    host.kernels.label_map(
        case.dense,
        queries,
        query_class,
        np.array([count], np.int32),
        *out,
        threshold=case.threshold,
        plan=host.kernels.plan_labels((h, w), case.size, capacity=count + spare),
    )
    return out


def check(host: Any, case: Any, cases: SimpleNamespace, *, spare: int = 0) -> None:
    """Compare with the twin; where a probability is just at the threshold both are right."""
    labels, winners, probability = label(host, case, spare=spare)
    expected = twins.label_logits(
        case.logits, case.query_class, size=case.size, threshold=case.threshold
    )
    clear = cases.formula(case)[1] if case.threshold else np.full(case.size, True)
    np.testing.assert_array_equal(labels[clear], expected[0][clear])
    np.testing.assert_array_equal(winners, expected[1])
    np.testing.assert_allclose(probability, expected[2], rtol=1e-5)


def test_label_map_is_its_twin(host: Any, launch: int, cases: SimpleNamespace) -> None:
    """In 340 random cases, ties included."""
    for seed in range(100 if LAUNCHES[launch] else 40):  # many threads take long on the host
        check(host, cases.label(100 * launch + seed), cases, spare=seed % 3)


@pytest.mark.parametrize("threshold", [None, 0.0005, 0.002])
def test_lists_that_are_full_lose_nobody(
    host: Any, launch: int, cases: SimpleNamespace, threshold: float | None
) -> None:
    """Each corner's winner is last at the other corners: none of 1,200 queries is out."""
    rng = np.random.default_rng(launch)
    logits = rng.uniform(-1, 1, (2, 2, 1200))
    logits[..., 596:600] = -10
    logits[[0, 0, 1, 1], [0, 1, 0, 1], [596, 597, 598, 599]] = 1.5
    case = cases.label(0)
    case = type(case)(logits.astype("f4"), np.arange(1200, dtype=np.int32), (12, 9), threshold)
    check(host, case, cases)


def test_the_lowest_of_many_equal_queries_wins(
    host: Any, launch: int, cases: SimpleNamespace
) -> None:
    """All of 700 queries are the same, more than a list holds."""
    logits = np.repeat(np.random.default_rng(launch).normal(size=(3, 3, 1)), 700, axis=2)
    case = type(cases.label(0))(logits.astype("f4"), np.arange(5, 705, dtype="i4"), (9, 20), None)
    assert (label(host, case)[0] == 5).all()


def test_large_cells_are_shared_by_blocks(
    host: Any, launch: int, cases: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pixel has one block, however many blocks a cell has."""
    monkeypatch.setattr(module, "_PIXELS_PER_BLOCK", 30)
    for seed in range(1000, 1010):
        check(host, cases.label(seed), cases)


def test_grids_are_labelled_in_bands(
    host: Any, launch: int, cases: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for the logits of two rows of nodes, or some more."""
    for seed in range(1100, 1112):
        case = cases.label(seed)
        monkeypatch.setattr(
            plans, "_LOGITS", seed % 4 * case.logits.shape[1] * case.logits.shape[2]
        )
        check(host, case, cases)


def test_bands_share_one_row_of_nodes() -> None:
    """And end with the grid."""
    assert module.bands(5, 5) == [(0, 5)]
    assert module.bands(5, 2) == [(0, 2), (1, 3), (2, 4), (3, 5)]
    assert module.bands(6, 4) == [(0, 4), (3, 6)]
    assert module.bands(1, 1) == [(0, 1)]


def test_product_is_the_matrix_product(host: Any, launch: int) -> None:
    """Of any shape, with sums of float32."""
    rng = np.random.default_rng(launch)
    for _ in range(8):
        m, k, n = (int(length) for length in rng.integers(1, 90, 3))
        a, b = rng.normal(size=(m, k)).astype("f4"), rng.normal(size=(k, n)).astype("f4")
        out = host.empty((m, n), np.float32)
        host.kernels._product(a[:, None], b, out)
        np.testing.assert_allclose(out, a.astype(float) @ b, atol=1e-5 * k)


def test_resize_is_its_twin(host: Any, launch: int) -> None:
    """Bit by bit, whatever grows or shrinks."""
    rng = np.random.default_rng(launch)
    for _ in range(30):
        (height, width, rows, columns) = (int(n) for n in rng.integers(1, 40, 4))
        frames = rng.integers(0, 256, (int(rng.integers(1, 4)), height, width, 3), np.uint8)
        out = host.empty((len(frames), rows, columns, 3), np.uint8)
        plan = host.kernels.plan_resize((height, width), (rows, columns))
        host.kernels.resize(frames, out, plan=plan)
        np.testing.assert_array_equal(out, twins.resize(frames, (rows, columns)))


def test_blend_is_its_twin(host: Any, launch: int, cases: SimpleNamespace) -> None:
    """Bit by bit, with labels of 8 and 16 bits."""
    for seed in range(40 * launch, 40 * launch + 40):
        image, labels, palette = cases.picture(seed)
        opacity, out = seed % 11 / 10, host.empty(image.shape, np.uint8)
        plan = host.kernels.plan_blend(labels.shape)
        host.kernels.blend(image, labels, palette, out, opacity=opacity, plan=plan)
        np.testing.assert_array_equal(out, twins.blend(image, labels, palette, opacity=opacity))


def test_wide_outlines_are_those_of_the_twin(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a window is larger than the image."""
    monkeypatch.setattr(twins, "_PIXELS_PER_OUTLINE", 3)
    rng = np.random.default_rng(0)
    for _ in range(40):
        height, width = (int(n) for n in rng.integers(1, 30, 2))
        labels = (rng.random((height, width)) < 0.02).astype(np.uint8)
        image, out = rng.integers(0, 256, (2, height, width, 3), np.uint8)
        palette = rng.integers(0, 256, (3, 3), np.uint8)
        plan = host.kernels.plan_blend((height, width))
        host.kernels.blend(image, labels, palette, out, opacity=0.5, plan=plan)
        np.testing.assert_array_equal(out, twins.blend(image, labels, palette, opacity=0.5))


@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
def test_nv12_to_rgb_is_its_twin(host: Any, launch: int, matrix: str) -> None:
    """Bit by bit, of odd sides, and of planes whose rows lie apart."""
    rng = np.random.default_rng(launch)
    for case in range(20):
        height, width = (int(n) for n in rng.integers(1, 40, 2))
        planes = rng.integers(0, 256, (2, height, width + 9), np.uint8)
        luma = planes[0, :, :width]
        chroma = planes[1, : (height + 1) // 2, : width + width % 2]
        options = {"matrix": matrix, "full_range": case % 2 == 0}
        out = host.empty((height, width, 3), np.uint8)
        host.kernels.nv12_to_rgb(luma, chroma, out, **options)
        expected = twins.nv12_to_rgb(luma, np.ascontiguousarray(chroma), **options)
        np.testing.assert_array_equal(out, expected)

"""The kernels compiled for the host by a C++ compiler, with numpy in the place of CuPy.

Also pictures, logits and frames to try them on, and the formula of label maps in float64.
"""

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atas_deploy.backends.kernels.kernels import Kernels, source

NAMES = ("product", "resize", "nodes", "label_cells_8", "label_cells_16", "find_changes_8")
NAMES += ("find_changes_16", "paint_8", "paint_16", "nv12_to_rgb")
_OPTIONS = ("-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC")


class Host:
    """Runs kernels, with any number of blocks and threads.

    Attributes:
        kernels: those of the package, on numpy arrays.
        blocks: of each launch; None = as many as are asked for.
        threads: of each block; None = as many as are asked for.
        backwards: whether the last thread of a block is the first to run.
        rng: for whatever memory holds before it is written, too.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.blocks: int | None = None
        self.threads: int | None = None
        self.backwards = False
        self.rng = np.random.default_rng(0)
        module = SimpleNamespace(get_function=lambda name: partial(self._run, name))
        cupy = SimpleNamespace(
            RawModule=lambda code, options: module, empty=self.empty, asarray=np.array
        )
        self.kernels = Kernels(cupy)

    def empty(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Memory with anything in it."""
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        return self.rng.integers(0, 256, size, np.uint8).view(dtype).reshape(shape)

    def _run(self, name: str, grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
        values = [_as_c(value) for value in args]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        blocks, threads = self.blocks or grid[0], self.threads or block[0]
        right = self._library.run(name.encode(), blocks, threads, self.backwards, pointers)
        assert right, f"there is no {name}, or its threads wait at different barriers"


def _as_c(value: Any) -> Any:
    """What CuPy passes: the address of an array, or a number of 32 bits."""
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    assert isinstance(value, np.int32 | np.float32)
    return (ctypes.c_int if isinstance(value, np.int32) else ctypes.c_float)(value)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as functions of the host; skips where there is no compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no g++ or clang++ to compile the kernels for the host with")
    folder = tmp_path_factory.mktemp("kernels")
    found = "".join(
        f'if (!std::strcmp(name, "{name}")) return host::launch({name}, values);\n'
        for name in NAMES
    )
    launch = f"bool launch_by_name(const char* name, void** values) {{\n{found}return false;\n}}\n"
    before = Path(__file__).with_name("host.cpp").read_text(encoding="utf-8")
    (folder / "kernels.cpp").write_text(before + source() + launch, encoding="utf-8")
    command = [compiler, *_OPTIONS, "-o", "kernels.so", "kernels.cpp"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "kernels.so"))
    library.run.restype = ctypes.c_bool
    library.run.argtypes = [
        ctypes.c_char_p,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_bool,
        ctypes.c_void_p,
    ]
    return library


@pytest.fixture
def host(library: ctypes.CDLL) -> Host:
    """Runs kernels on the host."""
    return Host(library)


@dataclass(frozen=True)
class Case:
    """Logits (h, w, Q) and how they are made into a label map."""

    logits: np.ndarray
    query_class: np.ndarray
    size: tuple[int, int]
    threshold: float | None

    @property
    def dense(self) -> np.ndarray:
        """Features whose product with `queries` is exact: one width for each node."""
        h, w, _ = self.logits.shape
        return np.eye(h * w, dtype=np.float32).reshape(h, w, h * w)

    @property
    def queries(self) -> np.ndarray:
        """The logits, (D, Q)."""
        return self.logits.reshape(-1, self.logits.shape[2])

    @property
    def dtype(self) -> type:
        """Of the labels."""
        return np.uint8 if self.query_class.max() <= 254 else np.uint16


def random_case(seed: int) -> Case:
    """Grids from one node on, stretched and shrunk, of few and many queries, some with ties."""
    rng = np.random.default_rng(seed)
    h, w, height, width = (int(n) for n in rng.integers(1, (7, 7, 40, 40)))
    count = int(rng.choice([1, 2, 3, 8, 40, 300], p=[0.1, 0.2, 0.2, 0.2, 0.2, 0.1]))
    logits = rng.normal(size=(h, w, count)) * rng.choice([0, 0.01, 1, 10])
    if seed % 3 == 0:
        logits = np.rint(logits)
    query_class = np.sort(rng.integers(0, count + 1, count)).astype(np.int32)
    threshold = [None, float(rng.uniform(0, 1)), float(rng.uniform(0, 2 / count))][seed % 5 % 3]
    return Case(logits.astype(np.float32), query_class, (height, width), threshold)


def formula(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The definition in float64: labels (H, W), and which of them no rounding can change."""
    h, w, count = case.logits.shape
    rows, columns = (_weights(*axis) for axis in zip((h, w), case.size, strict=True))
    maps = np.einsum("yh,xw,hwq->yxq", rows, columns, case.logits.astype(np.float64))
    ordered = np.sort(maps, axis=2)
    labels, clear = case.query_class[maps.argmax(axis=2)], np.full(case.size, True)
    if count > 1:
        clear = ordered[..., -1] - ordered[..., -2] > 1e-6 * max(1, abs(case.logits).max())
    if case.threshold:
        best = 1 / np.exp(maps - ordered[..., -1:]).sum(axis=2)
        labels = np.where(best < case.threshold, 0, labels)
        clear &= abs(best / case.threshold - 1) > 1e-5
    return labels, clear


def _weights(nodes: int, pixels: int) -> np.ndarray:
    """(N, n) weights of the nodes in each pixel."""
    place = np.clip((np.arange(pixels) + 0.5) * nodes / pixels - 0.5, 0, nodes - 1)
    return np.maximum(0, 1 - abs(place[:, None] - np.arange(nodes)))


def random_picture(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, labels of 8 or 16 bits with background and void, and colours."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 50, 2))
    dtype, classes = [(np.uint8, 254), (np.uint16, 300)][seed % 2]
    coarse = rng.integers(0, classes + 1, (1 + height // 4, 1 + width // 4)).astype(dtype)
    labels = coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width].copy()
    labels[rng.random(labels.shape) < 0.05] = 0
    labels[rng.random(labels.shape) < 0.05] = np.iinfo(dtype).max
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return image, labels, rng.integers(0, 256, (classes + 1, 3), np.uint8)


@pytest.fixture(scope="session")
def cases() -> SimpleNamespace:
    """`label(seed)`, `picture(seed)` and `formula(case)`."""
    return SimpleNamespace(label=random_case, picture=random_picture, formula=formula)

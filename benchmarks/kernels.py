"""Measure the CUDA kernels against their numpy twins and against the copy bandwidth; print JSON.

    python benchmarks/kernels.py [--size 1080 1920] [--short-side 448] [--words 2 150 1000]

Needs an NVIDIA GPU and CuPy; without them it says so and exits with 1. The project has had no GPU
to run it on. Each kernel is warmed up, then timed by CUDA events, ten runs in a CUDA graph, all
kernels turn by turn; the twin is run once on the CPU.

- copy: bytes read and written per second by a copy of 256 MiB on the GPU, in the same run.
- bytes: what a kernel must at least read and write; its share of the copy bandwidth follows.
- equal: share of the output's values that are the twin's.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from atas_deploy import __version__
from atas_deploy.backends.gpu import load_cupy
from atas_deploy.backends.kernels import twins
from atas_deploy.backends.kernels.kernels import Kernels
from atas_deploy.core.errors import AtasError
from atas_deploy.core.geometry import Size, encoder_size

_PATCH, _WIDTH = 16, 512  # of a B/16
_LOGIT_SCALE = 100
_COPY = 2**28
_REPEATS = 10  # of a kernel in each round


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A kernel at some sizes.

    Attributes:
        name: with its sizes.
        run: enqueues it.
        out: what it writes, on the GPU.
        moved: bytes that it must at least read and write.
        twin: computes the same on the CPU.
    """

    name: str
    run: Callable[[], None]
    out: Any
    moved: int
    twin: Callable[[], np.ndarray]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(1080, 1920), help="of a frame")
    parser.add_argument("--short-side", type=int, default=448, help="of the encoder's input")
    parser.add_argument("--words", type=int, nargs="+", default=[2, 150, 1_000])
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    try:
        cupy = load_cupy("cuda")
    except AtasError as exc:
        sys.exit(f"There is nothing to measure: {exc}")
    print(json.dumps(measure(cupy, args), indent=2))


def measure(cupy: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The report."""
    contenders = list(_contenders(cupy, tuple(args.size), args.short_side, args.words))
    source, target = cupy.zeros(_COPY, np.uint8), cupy.empty(_COPY, np.uint8)
    copy = partial(target.data.copy_from_device_async, source.data, _COPY)
    times = _time(cupy, [copy, *(contender.run for contender in contenders)], args.rounds)
    bandwidth = 2 * _COPY / np.median(times[0])
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "atas_deploy": __version__,
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "card": properties["name"].decode(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "size": list(args.size),
        "copy_bytes_per_s": round(bandwidth),
        "kernels": [
            _row(contender, seconds, bandwidth)
            for contender, seconds in zip(contenders, times[1:], strict=True)
        ],
    }


def _row(contender: Contender, seconds: np.ndarray, bandwidth: float) -> dict[str, Any]:
    start = time.perf_counter()
    expected = contender.twin()
    twin = time.perf_counter() - start
    median = float(np.median(seconds))
    return {
        "kernel": contender.name,
        "ms_p50": round(1e3 * median, 4),
        "ms_p95": round(1e3 * float(np.quantile(seconds, 0.95)), 4),
        "bytes": contender.moved,
        "share_of_copy": round(contender.moved / median / bandwidth, 3),
        "twin_ms": round(1e3 * twin, 1),
        "speed_up": round(twin / median, 1),
        "equal": float((contender.out.get() == expected).mean()),
    }


def _time(cupy: Any, runs: Sequence[Callable[[], None]], rounds: int) -> list[np.ndarray]:
    """Seconds of each function in each round, on the GPU."""
    times = np.empty((len(runs), rounds))
    with cupy.cuda.Stream(non_blocking=True) as stream:
        graphs = [_repeated(run, stream) for run in runs]
        for turn in range(rounds):
            events = [cupy.cuda.Event() for _ in range(len(runs) + 1)]
            events[0].record(stream)
            for graph, event in zip(graphs, events[1:], strict=True):
                graph.launch(stream)
                event.record(stream)
            stream.synchronize()
            for i in range(len(runs)):
                elapsed = cupy.cuda.get_elapsed_time(events[i], events[i + 1])
                times[i, turn] = elapsed / 1e3 / _REPEATS
    return list(times)


def _repeated(run: Callable[[], None], stream: Any) -> Any:
    """A graph that does it some times: launched one by one, small kernels would wait for Python."""
    run()
    stream.begin_capture()
    for _ in range(_REPEATS):
        run()
    return stream.end_capture()


def _contenders(
    cupy: Any, size: Size, short_side: int, words: Sequence[int]
) -> Iterator[Contender]:
    """All kernels on a seeded picture."""
    kernels, rng = Kernels(cupy), np.random.default_rng(0)
    frame = (128 + _smooth(rng, (9, 16, 3), size, spread=60)).clip(0, 255).astype(np.uint8)
    fitted = encoder_size(size, short_side=short_side, multiple=_PATCH)
    yield _resize(cupy, kernels, frame, fitted)
    grid = fitted[0] // _PATCH, fitted[1] // _PATCH
    dense = _smooth(rng, (7, 12, _WIDTH), grid, spread=1)
    dense /= np.linalg.norm(dense, axis=2, keepdims=True)
    for count in words:
        queries = rng.normal(size=(_WIDTH, count)).astype(np.float32)
        queries *= _LOGIT_SCALE / np.linalg.norm(queries, axis=0)
        for threshold in (None, 0.5):
            yield _label_map(cupy, kernels, dense, queries, size=size, threshold=threshold)
    labels = (_smooth(rng, (9, 16, 1), size, spread=2)[..., 0].astype(np.int64) % 12).astype("u1")
    yield _blend(cupy, kernels, frame, labels)
    yield _nv12(cupy, kernels, frame)


def _resize(cupy: Any, kernels: Kernels, frame: np.ndarray, fitted: Size) -> Contender:
    out = cupy.empty((1, *fitted, 3), np.uint8)
    plan = kernels.plan_resize((frame.shape[0], frame.shape[1]), fitted)
    return Contender(
        name=f"resize to {fitted[0]} x {fitted[1]}",
        run=partial(kernels.resize, cupy.asarray(frame[None]), out, plan=plan),
        out=out,
        moved=frame.nbytes + out.nbytes,
        twin=lambda: twins.resize(frame[None], fitted),
    )


def _label_map(
    cupy: Any,
    kernels: Kernels,
    dense: np.ndarray,
    queries: np.ndarray,
    *,
    size: Size,
    threshold: float | None,
) -> Contender:
    """The product included; each word is a class."""
    grid, count = (dense.shape[0], dense.shape[1]), queries.shape[1]
    query_class = np.arange(1, count + 1, dtype=np.int32)
    labels = cupy.empty(size, np.uint8 if count <= 254 else np.uint16)
    inputs = dense, queries, query_class, np.array([count], np.int32)
    out = labels, cupy.empty(grid, np.int32), cupy.empty(grid, np.float32)
    plan = kernels.plan_labels(grid, size, capacity=count)
    options = {"threshold": threshold}
    on_gpu = [cupy.asarray(array) for array in inputs]
    return Contender(
        name=f"label map of {count} words" + (f", threshold {threshold}" if threshold else ""),
        run=partial(kernels.label_map, *on_gpu, *out, **options, plan=plan),
        out=labels,
        moved=labels.nbytes + sum(array.nbytes for array in inputs),
        twin=lambda: twins.label_map(*inputs[:3], size=size, **options)[0],
    )


def _blend(cupy: Any, kernels: Kernels, frame: np.ndarray, labels: np.ndarray) -> Contender:
    palette = np.random.default_rng(1).integers(0, 256, (13, 3), np.uint8)
    out, plan = cupy.empty(frame.shape, np.uint8), kernels.plan_blend(labels.shape)
    on_gpu = [cupy.asarray(array) for array in (frame, labels, palette)]
    return Contender(
        name="blend",
        run=partial(kernels.blend, *on_gpu, out, opacity=0.55, plan=plan),
        out=out,
        moved=2 * frame.nbytes + labels.nbytes,
        twin=lambda: twins.blend(frame, labels, palette, opacity=0.55),
    )


def _nv12(cupy: Any, kernels: Kernels, frame: np.ndarray) -> Contender:
    height, width = frame.shape[:2]
    luma = np.ascontiguousarray(frame[..., 0])
    chroma = np.resize(frame[::2, ::2, 1:], ((height + 1) // 2, (width + 1) // 2 * 2))
    out = cupy.empty(frame.shape, np.uint8)
    planes = cupy.asarray(luma), cupy.asarray(chroma)
    return Contender(
        name="nv12 to rgb",
        run=partial(kernels.nv12_to_rgb, *planes, out, matrix="bt709"),
        out=out,
        moved=luma.nbytes + chroma.nbytes + frame.nbytes,
        twin=lambda: twins.nv12_to_rgb(luma, chroma, matrix="bt709"),
    )


def _smooth(
    rng: np.random.Generator, shape: tuple[int, ...], size: Size, *, spread: float
) -> np.ndarray:
    """Coarse noise (h, w, channels) around 0, enlarged: (*size, channels) float32."""
    coarse = rng.normal(0, spread, shape).astype(np.float32)
    channels = [cv2.resize(coarse[..., k], size[::-1]) for k in range(shape[2])]
    return np.stack(channels, axis=2)


if __name__ == "__main__":
    main()

"""Where a measurement was made: the machine, its load, and what is installed."""

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from atas_deploy.backends.ort_threads import thread_count, usable_cores
from atas_deploy.backends.trt.cards import find_card

_PACKAGES = (
    *("numpy", "opencv-python-headless", "opencv-python", "av", "onnxruntime", "onnxruntime-gpu"),
    *("torch", "tensorrt", "tensorrt-rtx", "cupy", "cupy-cuda12x", "cupy-cuda13x"),
)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads of ONNX Runtime, GPUs, and versions; JSON-ready."""
    cards = takewhile(lambda card: card is not None, map(find_card, count()))
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": thread_count(),
        "platform": platform.platform(),
        "gpus": [f"{c.name}, capability {c.capability}, driver {c.driver}" for c in cards if c],
        "versions": _versions(),
    }


def load_average() -> float | None:
    """Processes that ran or waited in the last minute; None where it is not counted."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

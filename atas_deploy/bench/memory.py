"""Memory of this process, from the counters of the Linux kernel, and of a GPU."""

import sys
from contextlib import suppress
from pathlib import Path

from atas_deploy.backends.gpu import gpu_index, load_cupy

_PROC = Path("/proc/self")


def forget_peak() -> int | None:
    """Start the peak memory of this process anew.

    `resource.getrusage` would not do: there a process begins with the peak of its parent.

    Returns:
        What is resident now, in bytes; None where there is no such counter.
    """
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError):  # containers may forbid it: then the peak is that since the start
        (_PROC / "clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int | None:
    """Most resident memory of this process since then, in bytes; None if it is not counted."""
    return _status("VmHWM") if sys.platform.startswith("linux") else None


def available() -> int | None:
    """Memory of this machine that is free or can be made so, in bytes; None if not known."""
    if not sys.platform.startswith("linux"):
        return None
    return _field(Path("/proc/meminfo"), "MemAvailable")


def device_memory(device: str) -> int | None:
    """Memory in use on a GPU, by this process and others, in bytes; None for the CPU."""
    if device == "cpu":
        return None
    cupy = load_cupy(device)
    with cupy.cuda.Device(gpu_index(device)):
        free, total = cupy.cuda.runtime.memGetInfo()
    return int(total - free)


def _status(name: str) -> int:
    return _field(_PROC / "status", name)


def _field(path: Path, name: str) -> int:
    """A field of a file of `/proc`, from kB to bytes."""
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])

"""Peak memory of this process, for benchmarks that mean nothing without it."""

from atas_deploy.bench import memory


def forget_peak() -> int:
    """Start the peak memory of this process anew; return what is resident now, in bytes."""
    return _counted(memory.forget_peak())


def peak() -> int:
    """Most resident memory of this process since then, in bytes."""
    return _counted(memory.peak())


def _counted(size: int | None) -> int:
    if size is None:
        raise SystemExit("This system does not count the memory of a process; use Linux.")
    return size

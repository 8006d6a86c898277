"""How many threads ONNX Runtime computes with on this machine."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from atas_deploy.core.errors import ConfigError

VARIABLE = "ATAS_DEPLOY_THREADS"


def thread_count(threads: int | None = None) -> int:
    """Threads for one operator.

    Args:
        threads: as many as this; None = `ATAS_DEPLOY_THREADS` if it is set, else `usable_cores()`.

    Raises:
        ConfigError: it is no whole number above 0.
    """
    given: object = os.environ.get(VARIABLE) if threads is None else threads
    if given in (None, ""):
        return usable_cores()
    text = str(given)
    if not (text.isascii() and text.isdigit() and int(text)):
        name = VARIABLE if threads is None else "threads"
        raise ConfigError(f'Got {name} = "{text}"; expected a whole number above 0.')
    return int(text)


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may compute on, at least 1.

    Hardware threads of one core share its arithmetic and count once. A container that may use 1.5
    processors' time counts as 2.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    limits = [_cores(root), *_quotas(root)]
    return max(1, min(ceil(limit) for limit in limits))


def _cores(root: Path) -> int:
    """Cores with a processor that the affinity mask of this process has."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    allowed = os.sched_getaffinity(0)
    siblings = {number: _read(root / topology.format(number)) for number in allowed}
    return len({text or f"cpu {number}" for number, text in siblings.items()})


def _quotas(root: Path) -> Iterator[float]:
    """Limits of processor time, in processors, of the control groups that this process is in.

    Source:
        Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst.
    """
    groups = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        controllers, _, place = line.partition(":")[2].partition(":")
        if not controllers:
            for group in _upwards(groups, place):
                yield from _ratio(_read(group / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            mounted = groups / "cpu"
            if not mounted.exists():
                mounted = groups / controllers
            for group in _upwards(mounted, place):
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                yield from _ratio([_read(group / name) for name in names])


def _upwards(mounted: Path, place: str) -> Iterator[Path]:
    """A control group and all above it; in a container the path may be the host's, and missing."""
    group = mounted / place.strip("/")
    yield group
    while group != mounted:
        group = group.parent
        yield group


def _ratio(fields: list[str]) -> Iterator[float]:
    """Quota over period; nothing where there is none, which is written "max", -1 or not at all."""
    if len(fields) == 2 and all(field.isdigit() and int(field) for field in fields):
        yield int(fields[0]) / int(fields[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""

"""TensorRT's timing cache: what it measured for one engine serves the next.

One file for each version of TensorRT and card. Only the flavour `tensorrt` has use for it: the
documentation of TensorRT-RTX deprecates it, as it changes no engine there.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from atas_deploy.backends.trt.machine import Machine
from atas_deploy.core.cache import cache_dir
from atas_deploy.core.files import atomic_path


def timing_file(machine: Machine) -> Path | None:
    """Where the measurements of a machine are kept; None if this user has no cache."""
    card = machine.card.name if machine.card else "none"
    name = re.sub(r"[^\w.]+", "-", f"{machine.flavour.name}-{machine.flavour.version}-{card}")
    try:
        return cache_dir() / "tensorrt" / f"{name}.timing"
    except OSError:
        return None


@contextmanager
def timing_cache(config: Any, file: Path | None) -> Iterator[None]:
    """Let a build use the cache, and add to it what the build measured.

    A file that TensorRT cannot read is taken for an empty one, and one that cannot be written costs
    the next build its time, not this one its engine. Builds that end at the same time lose nothing:
    each merges into what is on the disk, under a lock.

    Args:
        config: TensorRT's `IBuilderConfig`.
        file: of the cache; None = keep nothing.
    """
    cache = _read(config, file)
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    yield
    if file is not None:
        with suppress(OSError, NotImplementedError):  # a file system without locks
            _merge(config, cache, file)


def _merge(config: Any, cache: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"), atomic_path(file) as part:
        merged = _read(config, file)
        if not merged.combine(cache, False):
            merged = cache  # what is on the disk was measured by something else
        part.write_bytes(bytes(merged.serialize()))


def _read(config: Any, file: Path | None) -> Any:
    """The cache on the disk; an empty one if there is none or TensorRT refuses it."""
    try:
        cache = config.create_timing_cache(file.read_bytes() if file else b"")
    except (OSError, RuntimeError, ValueError):
        cache = None
    return config.create_timing_cache(b"") if cache is None else cache

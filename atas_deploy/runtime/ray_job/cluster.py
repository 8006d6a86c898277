"""Ray: started on this machine, or reached where it runs."""

import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import Any

from atas_deploy.core.errors import BackendError, ConfigError, first_sentence
from atas_deploy.core.extra import needs_extra

ADDRESS = "RAY_ADDRESS"
_STORE = 256 << 20  # bytes that a Ray of our own may hold: only names of sources pass through it
_REACH = 10.0  # seconds in which a cluster has to answer; Ray itself tries for minutes
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """How workers share the machines of a cluster.

    Attributes:
        workers: how many there are.
        cpus: processors of each, as Ray counts them.
        gpus: of each.
        per_machine: workers on one machine, at most.
    """

    workers: int
    cpus: int
    gpus: int
    per_machine: int


def import_ray() -> ModuleType:
    """Import Ray and Ray Data, told to be quiet; what the user has set stays.

    Raises:
        BackendUnavailableError: Ray is not installed.
    """
    settings = dict(_QUIET)
    if not os.environ.get(ADDRESS):  # a Ray of our own keeps no token in the user's home
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    with needs_extra("ray", to="--ray"):
        import ray
        import ray.data
    return ray


@contextmanager
def cluster(workers: int, *, gpu: bool) -> Iterator[Pool]:
    """Use Ray for a while: one that this process has, that at `RAY_ADDRESS`, or one of our own.

    One of our own ends with the block, and its files are removed.

    Args:
        workers: how many; 0 = one for each machine, or for each GPU.
        gpu: whether each needs a GPU.

    Raises:
        ConfigError: there are too few processors or GPUs.
        BackendError: Ray cannot be started or reached, or fails.
    """
    ray = import_ray()
    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w"))
        stack.enter_context(redirect_stdout(nowhere))  # where Ray reports killed workers
        if not ray.is_initialized():
            _start(ray, workers, stack)
        try:
            yield share(ray.nodes(), workers, gpu=gpu)
        except ray.exceptions.RayTaskError:  # a bug of ours
            raise
        except ray.exceptions.RayError as exc:
            raise BackendError(
                f"Ray failed ({first_sentence(exc)}); look at its machines with `ray status`, and "
                "go on with --resume."
            ) from exc


def _start(ray: ModuleType, workers: int, stack: ExitStack) -> None:
    """Start Ray, or join the cluster at `RAY_ADDRESS`."""
    address = os.environ.get(ADDRESS)
    settings = {} if address else _own(workers, stack)
    stack.callback(ray.shutdown, wait_for_processes=True)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address and ":" in address and "/" not in address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_REACH).close()
        with _hushed():
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **settings)
    except (OSError, RuntimeError, ValueError) as exc:
        what = f"be reached at {ADDRESS}={address}" if address else "be started"
        raise BackendError(f"Ray cannot {what} ({first_sentence(exc)}); see `ray status`.") from exc
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own in its place


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep libraries below Python from writing to standard error; Ray tells its log level there."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _own(workers: int, stack: ExitStack) -> dict[str, Any]:
    """Settings of a Ray of our own; its files lie in a folder that goes with it."""
    folder = tempfile.TemporaryDirectory(prefix="atas-", ignore_cleanup_errors=True)
    return {
        "num_cpus": workers or None,
        "object_store_memory": _STORE,
        "include_dashboard": False,
        "_temp_dir": stack.enter_context(folder),
    }


def share(nodes: Sequence[Mapping[str, Any]], workers: int, *, gpu: bool) -> Pool:
    """Share machines evenly.

    Args:
        nodes: as `ray.nodes` lists them.
        workers: as for `cluster`.
        gpu: as for `cluster`.

    Raises:
        ConfigError: there are too few processors or GPUs.
    """
    kind = "GPU" if gpu else "CPU"
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    machines = [machine for machine in machines if machine.get(kind, 0) >= 1]
    total = int(sum(machine[kind] for machine in machines))
    workers = workers or (total if gpu else len(machines))
    if not 1 <= workers <= total:
        raise ConfigError(
            f"Got {max(1, workers)} workers for {total} {kind}s of Ray; expected one at least for "
            "each worker."
        )
    most = int(max(machine["GPU"] for machine in machines)) if gpu else workers
    per_machine = min(most, workers) if gpu else ceil(workers / len(machines))
    cpus = int(min(machine.get("CPU", 0) for machine in machines)) // per_machine
    return Pool(workers=workers, cpus=cpus, gpus=int(gpu), per_machine=per_machine)

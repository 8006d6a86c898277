"""How many threads: what is asked for, else what affinity, cores and control groups allow."""

import os
from pathlib import Path

import pytest

from atas_deploy.backends.ort_threads import VARIABLE, thread_count, usable_cores
from atas_deploy.core.errors import ConfigError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight processors on four cores, all of them allowed, and no control group."""
    for number in range(8):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        first = number % 4
        (topology / "thread_siblings_list").write_text(f"{first},{first + 4}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def join(root: Path, line: str, files: dict[str, str]) -> None:
    """Put this process into a control group with these files below `sys/fs/cgroup`."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(f"{line}\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_hardware_threads_of_a_core_count_once(machine: Path) -> None:
    """They share its arithmetic."""
    assert usable_cores(machine) == 4


def test_affinity_is_kept(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors 1, 2 and 6 are two cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 6}, raising=False)
    assert usable_cores(machine) == 2


def test_without_topology_every_processor_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a sandbox that hides it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert usable_cores(tmp_path) == 3


def test_without_affinity_all_processors_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path) == 6


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("20000 100000", 1), ("max 100000", 4)],
)
def test_quota_of_a_container(machine: Path, quota: str, cores: int) -> None:
    """Control groups of version 2: processor time in a period, rounded up."""
    join(machine, "0::/", {"cpu.max": quota})
    assert usable_cores(machine) == cores


def test_the_narrowest_group_above_counts(machine: Path) -> None:
    """A group may have less than the groups in it ask for."""
    files = {"a/cpu.max": "100000 100000", "a/b/cpu.max": "300000 100000"}
    join(machine, "0::/a/b", files)
    assert usable_cores(machine) == 1


@pytest.mark.parametrize("mounted", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("place", ["/", "/docker/0123"])
def test_quota_by_version_1(machine: Path, mounted: str, place: str) -> None:
    """In a container the path is the host's, while its own group is mounted at the top."""
    files = {f"{mounted}/cpu.cfs_quota_us": "250000", f"{mounted}/cpu.cfs_period_us": "100000"}
    join(machine, f"4:cpu,cpuacct:{place}", files)
    assert usable_cores(machine) == 3


def test_version_1_without_quota(machine: Path) -> None:
    """It is written as -1."""
    join(machine, "1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"})
    assert usable_cores(machine) == 4


@pytest.mark.parametrize("text", ["", "0", "100000 0", "a b", "\xff"])
def test_nonsense_is_no_quota(machine: Path, text: str) -> None:
    """A file that is empty or means nothing changes nothing."""
    join(machine, "0::/", {"cpu.max": text})
    assert usable_cores(machine) == 4


def test_what_is_asked_for_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, then the variable, then the machine."""
    monkeypatch.setenv(VARIABLE, "3")
    assert thread_count(5) == 5
    assert thread_count() == 3
    monkeypatch.setenv(VARIABLE, "")
    assert thread_count() == usable_cores()


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5"])
def test_wrong_numbers_are_named(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """With the name of what holds them."""
    monkeypatch.setenv(VARIABLE, wrong)
    with pytest.raises(ConfigError, match=f'ATAS_DEPLOY_THREADS = "{wrong}"'):
        thread_count()
    with pytest.raises(ConfigError, match='threads = "0"'):
        thread_count(0)

"""Memory that goes back to the system."""

import ctypes
import sys
from pathlib import Path

import pytest

from atas_deploy.core.memory import return_freed


def _resident() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has such counters")
def test_what_was_freed_goes_back() -> None:
    """Pieces that the C library keeps below one that is in use count no longer."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("this C library has nothing to return memory with")
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    size, count = 100_000, 400
    pieces = [libc.malloc(size) for _ in range(count)]
    for piece in pieces:
        ctypes.memset(piece, 1, size)
    for piece in pieces[:-1]:
        libc.free(piece)
    before = _resident()
    return_freed()
    after = _resident()
    libc.free(pieces[-1])
    assert before - after > size * count / 2


def test_other_systems_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such function nothing happens."""
    monkeypatch.setattr(sys, "platform", "darwin")
    return_freed()

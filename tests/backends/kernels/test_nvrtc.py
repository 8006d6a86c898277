"""The kernels compile for every GPU that is supported; this needs NVRTC, but no GPU."""

import pytest

from atas_deploy.backends.kernels.kernels import OPTIONS, source

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC's bindings are not installed")
ADDED_BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")


@pytest.fixture(scope="module")
def supported() -> list[int]:
    """What this NVRTC compiles for; skips where there is none."""
    try:
        result, architectures = nvrtc.nvrtcGetSupportedArchs()
    except RuntimeError as exc:
        pytest.skip(f"NVRTC is not installed: {exc}")
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS
    return list(architectures)


def compile_for(architecture: int, code: str) -> tuple[bytes, str]:
    """The binary, empty if it does not compile, and what the compiler said."""
    _, program = nvrtc.nvrtcCreateProgram(code.encode(), b"kernels.cu", 0, None, None)
    options = [*OPTIONS, *ADDED_BY_CUPY, f"-arch=sm_{architecture}"]
    nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    binary = bytearray(size)
    nvrtc.nvrtcGetCUBIN(program, binary)
    nvrtc.nvrtcDestroyProgram(program)
    return bytes(binary), log.rstrip(b"\0").decode()


@pytest.mark.parametrize("architecture", [75, 80, 86, 89, 90, 100, 120])
def test_all_kernels_compile(architecture: int, supported: list[int]) -> None:
    """Without a warning."""
    if architecture not in supported:
        pytest.skip(f"this NVRTC does not compile for sm_{architecture}")
    binary, log = compile_for(architecture, source())
    assert binary.startswith(b"\x7fELF"), log
    assert not log


def test_what_is_wrong_is_said(supported: list[int]) -> None:
    """So that the test above can fail."""
    binary, log = compile_for(supported[0], source() + "__global__ void wrong() { int i = j; }")
    assert not binary
    assert '"j" is undefined' in log

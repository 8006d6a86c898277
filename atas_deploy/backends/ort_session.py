"""Sessions of ONNX Runtime: created, checked, and their errors translated.

B images, N texts, L tokens, H W pixels, h w grid, D embedding width
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from atas_deploy.backends.ort_device import CUDA, Provider, load_onnxruntime
from atas_deploy.core.errors import BackendError, BackendUnavailableError

_Tensors = Mapping[str, tuple[str, int]]  # type and rank by name
IMAGE_INPUTS: _Tensors = {"images": ("tensor(uint8)", 4)}
IMAGE_OUTPUTS: _Tensors = {"dense": ("tensor(float)", 4), "image": ("tensor(float)", 2)}
TEXT_INPUTS: _Tensors = {"tokens": ("tensor(int64)", 2)}
TEXT_OUTPUTS: _Tensors = {"text": ("tensor(float)", 2)}

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_SOURCE_LINE = re.compile(r"/\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])")
_TOO_NEW = re.compile(r"Unsupported model IR version|Opset \d+ is under development")


def load_session(
    path: Path,
    *,
    inputs: _Tensors,
    outputs: _Tensors,
    providers: Sequence[Provider],
    threads: int,
) -> Any:
    """Create a session, and check that it runs where it was asked to and is one of our graphs.

    Args:
        path: of the ONNX file; weights in a second file are found beside it.
        inputs: type and rank that the graph's inputs must have, by name.
        outputs: those of its outputs.
        providers: the wanted one first.
        threads: for one operator.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        BackendError: the file cannot be loaded, or is another graph.
        BackendUnavailableError: the provider did not start.
    """
    onnxruntime = load_onnxruntime()
    if providers[0][0] == CUDA:
        with redirect_stdout(io.StringIO()):  # it prints what it does not find
            onnxruntime.preload_dlls()  # of NVIDIA's wheels, where those are installed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # threads that wait spinning would take the cores from decoding, masks and writing
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads
    with translated(
        f"load {path}", cure=f"check it with `atas-deploy models {path.parent} --verify`"
    ):
        # without it, ONNX Runtime goes on without a provider that fails, here or in the middle
        session = onnxruntime.InferenceSession(
            path, options, providers=list(providers), enable_fallback=0
        )
    _check_provider(session, providers[0])
    _check_tensors(path, inputs, session.get_inputs(), "inputs")
    _check_tensors(path, outputs, session.get_outputs(), "outputs")
    return session


def _check_provider(session: Any, wanted: Provider) -> None:
    """Refuse a session that lost its provider."""
    name, options = wanted
    if session.get_providers()[0] != name:
        device = f"cuda:{options['device_id']}"
        raise BackendUnavailableError(
            f'The device "{device}" was asked for, but ONNX Runtime could not start its {name}; '
            "look at `atas-deploy doctor` and `nvidia-smi`, or use --device cpu."
        )


def _check_tensors(path: Path, expected: _Tensors, found: Sequence[Any], kind: str) -> None:
    """Refuse a graph that is none of ours."""
    got = {value.name: (value.type, len(value.shape)) for value in found}
    if got != expected:
        raise BackendError(
            f"The graph {path} has the {kind} {_listing(got)}; expected {_listing(expected)}: "
            "export the model with `atas-deploy export`."
        )


def _listing(tensors: _Tensors) -> str:
    named = (f"{name} {kind} of rank {rank}" for name, (kind, rank) in tensors.items())
    return ", ".join(named) or "none"


@contextmanager
def translated(action: str, *, cure: str) -> Iterator[None]:
    """Turn ONNX Runtime's errors, which share no base class, into ours."""
    try:
        yield
    except BackendError:
        raise
    except Exception as exc:
        text = str(exc).strip()
        line = text.splitlines()[0] if text else type(exc).__name__
        reason = _SOURCE_LINE.sub("", _CODE.sub("", line)).rstrip(".")
        if _TOO_NEW.search(reason):
            cure = "install a newer release of ONNX Runtime"
        raise BackendError(f"ONNX Runtime could not {action}: {reason}; {cure}.") from exc

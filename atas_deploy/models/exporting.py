"""Export a model into the cache, in a process of its own: this one never imports torch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from atas_deploy.core import errors
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import AtasError, ExportError
from atas_deploy.models.cache import ModelCache
from atas_deploy.models.sources import stamp

_GRACE = 20.0  # seconds to leave in order, before the process is killed


def export_once(
    source: str,
    *,
    readout: str | None,
    called: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> Bundle:
    """The bundle of a model in the cache, exported unless it is there.

    Args:
        source: what `atas_deploy.clip.weights.load_model` understands.
        readout: how dense features are read; None = as the model records.
        called: what the user calls it; None = the source.
        tell: called with one line when an export starts or is waited for; None = say nothing.

    Raises:
        AtasError: of the kind and with the sentence that the export gave.
        OutputError: the cache cannot be written.
    """
    cache = ModelCache()
    if bundle := cache.lookup(source, readout):
        return bundle
    with cache.locked(tell):
        if bundle := cache.lookup(source, readout):  # another process was faster
            return bundle
        if tell:
            with_readout = f" with read-out {readout}" if readout else ""
            tell(f"Exporting {called or source}{with_readout}, once, into {cache.folder}")
        files = stamp(source)
        name = _export(source, readout=readout, cache=cache, quiet=tell is None)
        cache.remember(source, readout, name, files)
    return Bundle.open(cache.folder / name)


def _export(source: str, *, readout: str | None, cache: ModelCache, quiet: bool) -> str:
    """Run `python -m atas_deploy.export`; return the name of the bundle."""
    arguments = [source, str(cache.folder), *([readout] if readout else [])]
    command = [sys.executable, "-P", "-m", "atas_deploy.export", *arguments]
    with _process(command, stderr=subprocess.DEVNULL if quiet else None) as process:
        assert process.stdout is not None
        answer = _answer(process.stdout.read())
        process.wait()
    if "bundle" in answer:
        return str(answer["bundle"])
    kind = getattr(errors, answer.get("error", ""), None)
    if isinstance(kind, type) and issubclass(kind, AtasError):
        raise kind(answer["message"])
    code = process.returncode
    how = f"was killed by signal {-code}, perhaps for want of memory" if code < 0 else "broke off"
    raise ExportError(
        f"The export of {source} {how}; run `atas-deploy export --model {source}` to see why."
    )


@contextmanager
def _process(command: list[str], *, stderr: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when the block does, or this process, however that ends.

    It reads its standard input and leaves at the end of it. Ctrl-C in a terminal reaches this
    process only.
    """
    pipe = subprocess.PIPE
    # Progress of downloads, but not a line for each attempt: what came of them, the answer tells.
    env = {"HF_HUB_VERBOSITY": "error", **os.environ}
    # The child imports what this process would: the same code, and nothing else of its folder.
    env["PYTHONPATH"] = os.pathsep.join(os.path.abspath(place) for place in sys.path)  # noqa: PTH100
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=stderr, env=env, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _answer(output: bytes) -> dict[str, Any]:
    """What the process said in its one line; {} if it said nothing."""
    try:
        answer = json.loads(output)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}

"""Python work in a process of its own, which ends when this one does.

The child answers with one line of JSON on its standard output: a result, or kind and message of an
error. It reads its standard input and leaves at the end of that.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from atas_deploy.core import errors
from atas_deploy.core.errors import AtasError, first_sentence

_GRACE = 20.0  # seconds to leave in order, before the process is killed


def ask(
    module: str, *arguments: str, broken: Callable[[str], AtasError], quiet: bool = False
) -> dict[str, Any]:
    """Run `python -m module arguments` and return what it answers, see `answer`.

    Args:
        module: to run; the child imports what this process would.
        arguments: of its command line.
        broken: the error to raise if there is no answer, from how the child ended, such as "was
            killed by signal 11".
        quiet: whether its standard error is thrown away.

    Raises:
        AtasError: of the kind and with the sentence that the child gave, or `broken`.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    with _process(command, stderr=subprocess.DEVNULL if quiet else None) as process:
        assert process.stdout is not None
        told = _parse(process.stdout.read())
        process.wait()
    kind = getattr(errors, str(told.get("error", "")), None)
    if isinstance(kind, type) and issubclass(kind, AtasError):
        raise kind(told["message"])
    if told and not process.returncode:
        return told
    code = process.returncode
    memory = ", perhaps for want of memory" if -code == getattr(signal, "SIGKILL", 9) else ""
    raise broken(f"was killed by signal {-code}{memory}" if code < 0 else "broke off")


def answer(work: Callable[[], dict[str, Any]], *, unexpected: Callable[[str], AtasError]) -> None:
    """Do what the parent asked for, in the child, and write the line that it waits for.

    Args:
        work: gives the result, ready for JSON; what it prints goes to standard error.
        unexpected: the error to tell of, from what another library's error says.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=_leave_at_end_of_input, daemon=True).start()
    with contextlib.redirect_stdout(sys.stderr):
        told = _told(work, unexpected)
    sys.stdout.write(json.dumps(told) + "\n")


def _told(
    work: Callable[[], dict[str, Any]], unexpected: Callable[[str], AtasError]
) -> dict[str, Any]:
    try:
        return work()
    except AtasError as exc:
        error: AtasError = exc
    except Exception as exc:  # the parent shows no traceback
        error = unexpected(first_sentence(exc))
    return {"error": type(error).__name__, "message": str(error)}


def _leave_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _process(command: list[str], *, stderr: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when the block does, or this process, however that ends.

    Ctrl-C in a terminal reaches this process only.
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


def _parse(output: bytes) -> dict[str, Any]:
    """What the process said in its one line; {} if it said nothing."""
    try:
        told = json.loads(output)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}

"""Export a model into the cache on behalf of another process, `atas_deploy.models.exporting`.

    python -m atas_deploy.export SOURCE FOLDER [READOUT]

One line of JSON tells how that went: the name of the bundle, or kind and message of an error. When
the other process has gone, which the end of the standard input tells, this one leaves too.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from atas_deploy.core.errors import AtasError, first_sentence
from atas_deploy.core.extra import needs_extra


def main(source: str, folder: str, readout: str | None = None) -> None:
    """Export and answer."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=_leave_at_end_of_input, daemon=True).start()
    with contextlib.redirect_stdout(sys.stderr):
        answer = _answer(source, Path(folder), readout)
    sys.stdout.write(json.dumps(answer) + "\n")


def _answer(source: str, folder: Path, readout: str | None) -> dict[str, str]:
    try:
        with needs_extra("export", to="Export"):
            from atas_deploy.clip.weights import load_model
            from atas_deploy.export.cached import export_cached
        return {"bundle": export_cached(load_model(source), folder, readout=readout).path.name}
    except AtasError as exc:
        return {"error": type(exc).__name__, "message": str(exc)}
    except Exception as exc:  # the other process shows no traceback
        reason = first_sentence(exc)
        told = (
            f"The export of {source} failed ({reason}); see `atas-deploy export --model {source}`."
        )
        return {"error": "ExportError", "message": told}


def _leave_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])

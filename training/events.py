"""The rows of the training log as TensorBoard events."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from atas_deploy.core.errors import BackendUnavailableError
from atas_deploy.core.files import output_error

EVENTS = "events"


@contextmanager
def open_events(folder: Path, *, step: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Open the event files of a run, in a folder of their own.

    Args:
        folder: folder of the run.
        step: steps taken so far; TensorBoard hides what it was told of later ones.

    Yields:
        What writes a row: a curve for each name, over "step".

    Raises:
        BackendUnavailableError: the package `tensorboard` is missing.
        OutputError: the files cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as exc:
        raise BackendUnavailableError(
            "TensorBoard events need the package tensorboard, which is not installed; "
            'run pip install "atas-deploy[tensorboard]".'
        ) from exc
    try:
        writer = SummaryWriter(folder / EVENTS, purge_step=step + 1)
    except OSError as exc:
        raise output_error(folder / EVENTS, exc) from exc

    def write(row: Mapping[str, float]) -> None:
        for name in row.keys() - {"step"}:
            writer.add_scalar(name, row[name], int(row["step"]))
        writer.flush()

    try:
        yield write
    finally:
        writer.close()

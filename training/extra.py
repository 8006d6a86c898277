"""What to say where the packages of the extra `train` are missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from atas_deploy.core.errors import BackendUnavailableError


@contextmanager
def needs_extra() -> Iterator[None]:
    """Name the extra to install if a package is missing.

    Raises:
        BackendUnavailableError: one is.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        raise BackendUnavailableError(
            f"Training needs {exc.name}, which is not installed; "
            'run pip install "atas-deploy[train]".'
        ) from exc

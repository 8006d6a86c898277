"""What to say where the packages of an extra are missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from atas_deploy.core.errors import BackendUnavailableError


@contextmanager
def needs_extra(extra: str, *, to: str) -> Iterator[None]:
    """Name the extra to install if a package is missing.

    Args:
        extra: name of the extra.
        to: what is done with its packages, the sentence's subject.

    Raises:
        BackendUnavailableError: one is.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        raise BackendUnavailableError(
            f"{to} needs {exc.name}, which is not installed; "
            f'run pip install "atas-deploy[{extra}]".'
        ) from exc

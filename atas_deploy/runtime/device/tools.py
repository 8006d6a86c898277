"""What all pictures of a model share on a GPU: kernels, streams and words."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend, DeviceBackend
from atas_deploy.backends.driver import Driver
from atas_deploy.backends.kernels.kernels import Kernels
from atas_deploy.core.errors import AtasError, BackendError, first_sentence
from atas_deploy.runtime.device.words import DeviceWords

_CURE = (
    "use a smaller --batch-size if memory ran out; if CuPy finds no compiler run "
    '`pip install "cupy-cuda13x[ctk]"` (cupy-cuda12x for a driver of CUDA 12), else look at '
    "`nvidia-smi`"
)


@dataclass(frozen=True, slots=True, eq=False)
class Tint:
    """How overlays are made.

    Attributes:
        palette: (C + 1, 3) uint8 RGB.
        opacity: share of the tint, in [0, 1].
    """

    palette: npt.NDArray[np.uint8]
    opacity: float


class Tools:
    """Kernels, streams and words of a model on its GPU.

    Pixels go up on one stream and results come down on another, while the backend's own stream
    computes. Events put what belongs together in order.

    Args:
        backend: on a GPU.
        driver: the backend's.

    Attributes:
        backend: the same.
        driver: the same.
        kernels: compiled for the GPU when they first run.
        words: on the GPU.
        up: stream of the copies to the GPU.
        down: stream of the copies from it.
        capture_problem: one sentence on why frames have no CUDA graphs; None while all is well.
    """

    def __init__(self, backend: DeviceBackend, driver: Driver) -> None:
        self.backend, self.driver = backend, driver
        self.kernels = Kernels(driver.cupy)
        self.words = DeviceWords(driver)
        self.capture_problem: str | None = None
        with driver.active():
            self.up: Any = driver.new_stream()
            self.down: Any = driver.new_stream()

    @contextmanager
    def enqueuing(self, action: str) -> Iterator[None]:
        """Have the backend's stream for oneself.

        Raises:
            BackendError: what fails on the GPU, in one sentence.
        """
        with translated(action), self.backend.enqueuing():
            yield

    def wait(self) -> None:
        """Wait for all work: memory may be let go, whichever stream used it.

        What failed on the GPU has been told to who waited for a result.
        """
        with suppress(Exception), self.driver.active():
            for stream in (self.up, self.driver.stream, self.down):
                stream.synchronize()


def open_tools(backend: Backend) -> Tools | None:
    """The tools for a backend; None if it does not run on a GPU."""
    driver = getattr(backend, "driver", None)
    return None if driver is None else Tools(cast(DeviceBackend, backend), driver)


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn the errors of CuPy, which share no base class, into ours."""
    try:
        yield
    except AtasError:
        raise
    except Exception as exc:
        raise BackendError(f"The GPU could not {action}: {first_sentence(exc)}; {_CURE}.") from exc

"""TensorRT in its two flavours, which share one Python interface: `tensorrt` and `tensorrt-rtx`.

TensorRT 10 and 11 build an engine on the card that will run it. TensorRT-RTX builds for cards by
their compute capability, and needs none to do so. What TensorRT 10 and 11 do here follows their
documentation; the project's tests run TensorRT-RTX.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from atas_deploy.core.errors import BackendUnavailableError, ConfigError, first_sentence

TENSORRT, RTX = "tensorrt", "tensorrt-rtx"
FLAVOURS = (TENSORRT, RTX)  # the one to prefer first
_MODULES = {TENSORRT: "tensorrt", RTX: "tensorrt_rtx"}
_EXTRAS = {TENSORRT: "trt", RTX: "trt-rtx"}
_OLDEST = 10  # release of TensorRT that knows strongly typed networks and stripped plans
_TURING = "7.5"  # TensorRT-RTX builds for it only where it is named, and without float32 products


@dataclass(frozen=True, slots=True)
class Flavour:
    """An installed TensorRT.

    Attributes:
        name: "tensorrt" or "tensorrt-rtx".
        version: such as "1.7.1.116".
        module: its Python module.
    """

    name: str
    version: str
    module: Any

    def __str__(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} {self.version}"

    @property
    def targets(self) -> dict[str, Any]:
        """The compute capabilities that it builds for: "8.9" -> enum; {} = only the card here."""
        if self.name != RTX:
            return {}
        members = self.module.ComputeCapability.__members__
        numbers = {int(name[2:]): enum for name, enum in members.items() if name.startswith("SM")}
        return {f"{sm // 10}.{sm % 10}": numbers[sm] for sm in sorted(numbers)}

    @property
    def default_targets(self) -> tuple[str, ...]:
        """The capabilities that an engine is built for where none is named: all but Turing's."""
        return tuple(target for target in self.targets if target != _TURING)

    @property
    def log(self) -> Any:
        """The logger to give to TensorRT: one in a process, as it keeps the first that it gets."""
        return _log(self.module)


def load_flavour(name: str | None = None) -> Flavour:
    """Import TensorRT.

    Args:
        name: of the flavour; None = `tensorrt` if it is installed, else `tensorrt-rtx`.

    Raises:
        BackendUnavailableError: it is not installed, cannot be imported or is too old.
        ConfigError: unknown flavour.
    """
    if name is not None and name not in FLAVOURS:
        raise ConfigError(f'Unknown flavour "{name}"; expected {" or ".join(FLAVOURS)}.')
    for candidate in [name] if name else FLAVOURS:
        try:
            module = import_module(_MODULES[candidate])
        except ModuleNotFoundError as exc:
            if exc.name == _MODULES[candidate]:
                continue
            raise _unusable(candidate, first_sentence(exc)) from exc
        except (ImportError, OSError, RuntimeError) as exc:  # a library of the driver is missing
            raise _unusable(candidate, first_sentence(exc)) from exc
        return _checked(candidate, module)
    wanted = name or RTX
    raise BackendUnavailableError(
        f"{name or 'TensorRT'} is not installed; run pip install "
        f'"atas-deploy[{_EXTRAS[wanted]}]"'
        + ("." if name else ', or "atas-deploy[trt]" where a data-centre card or a Jetson is.')
    )


def _checked(name: str, module: Any) -> Flavour:
    version = str(module.__version__)
    major = version.partition(".")[0]
    if name == TENSORRT and not (major.isdigit() and int(major) >= _OLDEST):
        raise BackendUnavailableError(
            f"{name} {version} is installed, expected release {_OLDEST} or later; run pip install "
            '--upgrade "atas-deploy[trt]".'
        )
    return Flavour(name, version, module)


def _unusable(name: str, reason: str) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"{name} is installed but cannot be imported ({reason}); check the NVIDIA driver, or run "
        f'pip install --force-reinstall "atas-deploy[{_EXTRAS[name]}]".'
    )


@cache
def _log(module: Any) -> Any:
    """A logger that keeps errors, for our own sentence, and prints nothing."""
    error = module.ILogger.ERROR

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (module.ILogger.INTERNAL_ERROR, error):
                self.errors.append(text)

    return Log()

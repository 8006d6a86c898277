"""Every error that atas-deploy raises on purpose.

    AtasError                       root: the CLI prints its one sentence and exits with 1
    ├── ConfigError    (ValueError) an option, class list or setting cannot be used
    ├── InputError     (ValueError) a file, frame or array the user gave cannot be read
    │   └── AnnotationError         a file of boxes or masks is damaged or does not fit its pictures
    ├── OutputError    (OSError)    a result cannot be written
    ├── BundleError                 a model bundle is missing, damaged or of another version
    ├── CheckpointError             training weights cannot be read or do not fit the model
    ├── TrainingError
    │   └── NonFiniteLossError      the loss became NaN or infinite
    ├── ExportError
    │   └── ParityError             an exported graph differs from the PyTorch model
    └── BackendError                an inference engine failed
        └── BackendUnavailableError (ImportError) a package or device is missing; names the cure

A message says what was got, what was expected and what to do about it, in one sentence.
"""


class AtasError(Exception):
    """Root of all errors raised on purpose."""


class ConfigError(AtasError, ValueError):
    """An option, class list or setting cannot be used."""


class InputError(AtasError, ValueError):
    """A file, frame or array given by the user cannot be read."""


class AnnotationError(InputError):
    """A file of boxes or masks is damaged or does not fit its pictures; names the entry."""


class OutputError(AtasError, OSError):
    """A result cannot be written."""


class BundleError(AtasError):
    """A model bundle is missing, damaged or of an unknown version."""


class CheckpointError(AtasError):
    """Training weights cannot be read or do not fit the model."""


class TrainingError(AtasError):
    """A training run cannot start or go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class ExportError(AtasError):
    """A model cannot be exported."""


class ParityError(ExportError):
    """An exported graph does not compute what the PyTorch model computes."""


class BackendError(AtasError):
    """An inference engine failed."""


class BackendUnavailableError(BackendError, ImportError):
    """A package, provider or device is missing; the message names the cure."""


def first_sentence(exc: BaseException) -> str:
    """The first sentence of another library's message, without its stop, or the kind of error."""
    text = str(exc).strip().partition("\n")[0].partition(". ")[0].strip(".:")
    return text or type(exc).__name__

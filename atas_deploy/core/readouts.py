"""Names of the ways to read dense features; `atas_deploy.clip.readouts` has what they do."""

from atas_deploy.core.classes import shorten
from atas_deploy.core.errors import ConfigError

READOUTS: tuple[str, ...] = ("vanilla", "maskclip", "sclip", "clearclip", "naclip")


def check_readout(readout: str) -> str:
    """Return the read-out's name if there is such a read-out.

    Raises:
        ConfigError: there is none.
    """
    if readout not in READOUTS:
        raise ConfigError(
            f"Read-out '{shorten(readout)}' is unknown; choose one of {', '.join(READOUTS)}."
        )
    return readout

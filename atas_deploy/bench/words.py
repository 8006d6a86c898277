"""The words that are asked for: the first of LVIS, as photographs of anything have."""

from atas_deploy.core.classes import parse_classes
from atas_deploy.core.errors import ConfigError

LIST = "@lvis"
UNLISTED = ("photograph", "drawing")  # asked for while the words themselves are not yet


def lvis(count: int) -> list[str]:
    """The first words of the list, one a class.

    Raises:
        ConfigError: it has fewer.
    """
    names = [spec.name for spec in parse_classes(LIST)]
    if not 2 <= count <= len(names):
        raise ConfigError(f"Got {count} words; expected 2 to {len(names)}, as many as {LIST} has.")
    return names[:count]

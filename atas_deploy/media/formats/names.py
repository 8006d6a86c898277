"""Class and file names for formats that cannot hold every character."""

import re
from collections.abc import Iterable, Sequence

UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff"
"""Control characters, line ends and halves of characters, for a regular expression's [...]."""


def safe_names(
    names: Sequence[str],
    *,
    forbidden: str = f"[{UNPRINTABLE}]",
    longest: int | None = None,
    taken: Iterable[str] = (),
) -> list[str]:
    """Replace what a format forbids by "_" and keep names apart.

    Args:
        names: Distinct names.
        forbidden: Regular expression of what to replace.
        longest: Characters that the format allows, or None.
        taken: Names that the format keeps for itself.

    Returns:
        One name for each, unlike all others; those without anything forbidden stay as they are,
        as far as no name before them was changed into the same.
    """
    used = set(taken)
    numbers: dict[str, int] = {}  # the last one tried for each name
    safe = []
    for name in names:
        clean = re.sub(forbidden, "_", name).strip()[:longest].strip() or "_"
        candidate = clean
        while candidate in used:
            numbers[clean] = numbers.get(clean, 1) + 1
            end = f"_{numbers[clean]}"
            candidate = (clean if longest is None else clean[: longest - len(end)]) + end
        used.add(candidate)
        safe.append(candidate)
    return safe

"""What the values of label maps mean, from a CSV file with the columns value and class.

    value,class
    1,person
    2,bicycle
    17,cat

A class is a name of the class list, any of its synonyms, or its number from 1 on; 0 or "background"
is background. Values that are not named are void.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atas_deploy.core.class_spec import ClassSpec, shorten
from atas_deploy.core.errors import AnnotationError, InputError

_MOST = 65_535
_BACKGROUND = ("0", "background")


@dataclass(frozen=True, slots=True)
class LabelValues:
    """The class of each value.

    Attributes:
        path: of the file.
        labels: by value, 0 = background, i = class i.
        class_names: the classes, if there was no list: those of the file, in its order.
    """

    path: Path
    labels: dict[int, int]
    class_names: tuple[str, ...] | None


def read_label_values(path: Path, classes: Sequence[ClassSpec] | None = None) -> LabelValues:
    """Read a file.

    Args:
        path: CSV with the columns value and class.
        classes: the list that its names and numbers mean; None = each name is a class of its own.

    Raises:
        InputError: it cannot be read.
        AnnotationError: a value or a class is none, or a value stands there twice.
    """
    rows = list(_rows(path))
    if classes is None:
        own = dict.fromkeys(name for _, _, name in rows if name.casefold() not in _BACKGROUND)
        number = {name: i for i, name in enumerate(own, 1)}
    else:
        own = {}
        number = {str(i): i for i in range(1, len(classes) + 1)}
        for i, spec in reversed(list(enumerate(classes, 1))):
            number |= {word.casefold(): i for word in (*spec.synonyms, spec.name)}
    labels: dict[int, int] = {}
    for line, value, name in rows:
        if value in labels:
            raise AnnotationError(f"{path}: line {line} names the value {value} twice; keep one.")
        key = name if classes is None else name.casefold()
        label = 0 if name.casefold() in _BACKGROUND else number.get(key)
        if label is None:
            raise AnnotationError(
                f'{path}: line {line} has the class "{shorten(name)}", which is no name in '
                f"--classes and no number from 0 to {len(classes or ())}; correct it."
            )
        labels[value] = label
    return LabelValues(path, labels, tuple(own) if classes is None else None)


def _rows(path: Path) -> Iterator[tuple[int, int, str]]:
    """Line, value and class.

    Raises:
        InputError: the file cannot be read.
        AnnotationError: it has no such columns, no row, or a value that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read ({exc}); give CSV in UTF-8.") from exc
    rows = csv.DictReader(lines)
    if not {"value", "class"} <= {*(rows.fieldnames or ())}:
        raise AnnotationError(f"{path} has no columns value and class; its first line names them.")
    empty = True
    for row in rows:
        value, name = (row["value"] or "").strip(), " ".join((row["class"] or "").split())
        if not (value.isascii() and value.isdigit() and int(value[:6]) <= _MOST) or not name:
            raise AnnotationError(
                f'{path}: line {rows.line_num} has the value "{shorten(value)}" and the class '
                f'"{shorten(name)}"; expected a number from 0 to {_MOST} and a class.'
            )
        empty = False
        yield rows.line_num, int(value), name
    if empty:
        raise AnnotationError(f"{path} names no value; expected a value and a class a line.")

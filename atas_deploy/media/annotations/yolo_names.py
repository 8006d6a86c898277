"""What YOLO's data.yaml says, or a list of classes: files that lie beside or above the text."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atas_deploy.core.errors import AnnotationError
from atas_deploy.media.annotations.text import read_text

CLASS_LISTS = ("classes.txt", "obj.names")
"""One name a line."""

_TABLES = ("data.yaml", "data.yml", "dataset.yaml")
_FOLDERS = 3  # the folder of the text and two above

_QUOTED = r"""(?P<double>"(?:[^"\\]|\\.)*")|(?P<single>'(?:[^']|'')*')"""
_REST = r"[ \t]*(?:(?<=[ \t])#.*)?$"
_MARK = r"""^[ \t]*(?:-[ \t]+|(?P<quote>['"]?)(?P<number>\d+)(?P=quote)[ \t]*:[ \t]+)"""
_LINE = re.compile(
    rf"{_MARK}(?:{_QUOTED}|(?P<plain>[^\s'\"#&*!|>%@`\[{{](?:(?!:[ \t]).)*?)){_REST}"
)
_KEY = re.compile(r"""^(?:\{\s*)?(['"]?)names\1[ \t]*:(?:[ \t]+|$)""", re.M)
_BLOCK = re.compile(r"(?:#.*)?\n((?:(?:(?!---)[ \t#-].*)?(?:\n|\Z))*)")
_IN_LINE = re.compile(
    rf"""\s*(?:\#.*\s*)*
    (?:(?P<quote>['"]?)(?P<number>\d+)(?P=quote)\s*:\s+)?
    (?:{_QUOTED}|(?P<plain>[^\s'"\#&*!|>%@`,\[\]{{}}][^,\[\]{{}}\n]*?))
    \s*(?:\s\#.*\s*)*(?P<end>[],}}])""",
    re.X,
)
_KEYPOINTS = re.compile(r"^kpt_shape[ \t]*:[ \t]*\[[ \t]*(\d+)[ \t]*,[ \t]*([23])[ \t]*\]", re.M)


@dataclass(frozen=True, slots=True)
class YoloDataset:
    """What is known of the text of a folder.

    Attributes:
        names: of the classes; None if no file has them.
        keypoint_values: how many values of keypoints follow each box; None if there are none.
    """

    names: list[str] | None = None
    keypoint_values: int | None = None


def find_dataset(folder: Path) -> YoloDataset:
    """What the nearest YAML file or list of classes says.

    Of YAML only `kpt_shape` is understood and `names:`, with a list or with names that are numbered
    from 0 on, in one line or one a line.

    Raises:
        AnnotationError: there are names, but in another form.
    """
    for above in (folder, *folder.resolve().parents)[:_FOLDERS]:
        for path in (above / name for name in _TABLES):
            if path.is_file() and (found := _read_table(path)) != YoloDataset():
                return found
        for path in (above / name for name in CLASS_LISTS):
            if path.is_file():
                lines = read_text(path, kind="a list of classes").rstrip().splitlines()
                return YoloDataset([line.strip() for line in lines] or None)
    return YoloDataset()


def _read_table(path: Path) -> YoloDataset:
    text = "\n".join(read_text(path, kind="YOLO's description of data").splitlines())
    keypoints = _KEYPOINTS.search(text)
    names = None
    if key := _KEY.search(text):
        names = _read_names(text[key.end() :])
        if names is None:
            raise AnnotationError(
                f"{path}: names cannot be understood, expected a list, or names that are numbered "
                'from 0 on: write a line such as "  0: dog" for each'
            )
    return YoloDataset(names, int(keypoints[1]) * int(keypoints[2]) if keypoints else None)


def _read_names(text: str) -> list[str] | None:
    """The names of a text that begins behind "names:"; None if they are not understood."""
    matches = _in_line(text) if text[:1] in ("[", "{") else _in_block(text)
    names: dict[int, str] = {}
    for place, match in enumerate(matches):
        if match is None or not (name := _unquote(match)):
            return None
        names[place if match["number"] is None else int(match["number"])] = name
    if not names or sorted(names) != [*range(len(names))]:
        return None
    return [names[i] for i in range(len(names))]


def _in_line(text: str) -> Iterator[re.Match[str] | None]:
    """Names of "[a, b]" or "{0: a, 1: b}", which may go on in further lines."""
    close, at = {"[": "]", "{": "}"}[text[0]], 1
    while True:
        match = _IN_LINE.match(text, at)
        yield match
        if match is None or match["end"] == close:
            return
        at = match.end()
        if re.match(rf"\s*\{close}", text[at:]):
            return


def _in_block(text: str) -> Iterator[re.Match[str] | None]:
    """Names of lines "- a" or "0: a"."""
    block = _BLOCK.match(text)
    lines = block[1].splitlines() if block else [""]
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            yield _LINE.match(line)


def _unquote(match: re.Match[str]) -> str | None:
    """The name without its quotes; None if it is none."""
    if match["single"] is not None:
        return match["single"][1:-1].replace("''", "'")
    if match["double"] is None:
        return match["plain"]
    try:
        return str(json.loads(match["double"]))
    except ValueError:
        return None

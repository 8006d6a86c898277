"""Names of YOLO's classes, from the files that lie beside or above the text."""

import json
import re
from pathlib import Path

from atas_deploy.media.annotations.text import read_text

CLASS_LISTS = ("classes.txt", "obj.names")
"""One name a line."""

_TABLES = ("data.yaml", "data.yml", "dataset.yaml")
_FOLDERS = 3  # the folder of the text and two above
_PART = r"""[^,'"]|'[^']*'|"[^"]*\""""
_KEY = re.compile(r"""^\s*(?:-\s+|(['"]?)(\d+)\1\s*:\s*)(.*?)\s*$""")


def find_class_names(folder: Path) -> list[str] | None:
    """The names that the nearest list of classes gives; None if there is none.

    Of YAML only the forms that tools write are understood: `names:` with a list or with numbered
    names, in one line or one a line. Anything else counts as no list.
    """
    for above in (folder, *folder.resolve().parents)[:_FOLDERS]:
        for name in _TABLES:
            if (above / name).is_file() and (found := _from_yaml(above / name)):
                return found
        for name in CLASS_LISTS:
            if (above / name).is_file():
                lines = read_text(above / name, kind="a list of classes").rstrip().splitlines()
                return [line.strip() for line in lines] or None
    return None


def _from_yaml(path: Path) -> list[str] | None:
    text = re.sub(r"(^|\s)#.*$", "", read_text(path, kind="a list of classes"), flags=re.M)
    if flow := re.search(r"^names\s*:\s*(?:\[([^]]*)\]|\{([^}]*)\})", text, re.M):
        mark, body = ("- ", flow[1]) if flow[1] is not None else ("", flow[2])
        if not re.fullmatch(rf"(?:{_PART}|,)*", body):
            return None
        parts = re.findall(rf"(?:{_PART})+", body)
        return _block("\n".join(mark + part.strip() for part in parts if part.strip()))
    block = re.search(r"^names\s*:[ \t]*\n((?:(?:[ \t-].*)?(?:\n|\Z))+)", text, re.M)
    return _block(block[1]) if block else None


def _block(body: str) -> list[str] | None:
    """Names of lines "- a" or "0: a"."""
    matches = [_KEY.match(line) for line in body.splitlines() if line.strip()]
    names: dict[int, str] = {}
    for place, match in enumerate(matches):
        if match is None or (name := _unquote(match[3])) is None:
            return None
        names[int(match[2]) if match[2] else place] = name
    return [names[i] for i in range(len(names))] if sorted(names) == [*range(len(names))] else None


def _unquote(text: str) -> str | None:
    """Text without its quotes; None if they are not closed."""
    if text[:1] not in ("'", '"'):
        return text
    if len(text) < 2 or text[-1] != text[0]:
        return None
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    try:
        return str(json.loads(text))
    except ValueError:
        return None

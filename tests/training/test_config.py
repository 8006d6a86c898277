"""Run files: TOML in and out, and values of the right type."""

import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.config import as_kind, plain, read_run_file, to_toml

VALUES: dict[str, Any] = {
    "text": 'a "quoted" \\ word,\nß 猫 \x7f \t',
    "number": 1e-05,
    "large": 1e300,
    "count": -3,
    "never": float("inf"),
    "yes": True,
    "no": False,
    "list": [1, 2, 3],
    "names": ["a b", "c'd", ""],
    "empty": [],
}


def test_toml_gives_back_what_was_written() -> None:
    """Python's own parser reads every kind of value as it was."""
    assert tomllib.loads(to_toml(VALUES)) == VALUES


def test_what_is_not_set_becomes_a_comment() -> None:
    """TOML has no null; a reader of the file sees the option all the same."""
    text = to_toml({"steps": None, "lr": 0.1})
    assert tomllib.loads(text) == {"lr": 0.1}
    assert "# steps is not set" in text


def test_paths_and_tuples_are_written_plainly() -> None:
    """A path is a text and a tuple a list."""
    assert plain((Path("a/b"), (1, 2))) == ["a/b", [1, 2]]


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (True, bool, True),
        ("x", str, "x"),
        ("a/b", Path, Path("a/b")),
        ("a/b", Path | None, Path("a/b")),
        (None, Path | None, None),
        ([2, 4], tuple[int, ...], (2, 4)),
        (6, tuple[int, ...], (6,)),
        ("photos", tuple[str, ...], ("photos",)),
        ("b", Literal["a", "b"], "b"),
        ("b", Literal["a", "b"] | None, "b"),
    ],
)
def test_values_become_the_type_of_their_field(value: Any, kind: Any, wanted: Any) -> None:
    """One value stands for a list of one, a whole number for a number."""
    found = as_kind(value, kind, called="it")
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3.5, int, "a whole number"),
        (True, int, "a whole number"),
        (True, float, "a number"),
        ("3", float, "a number"),
        (1, bool, "true or false"),
        (1, str, "text"),
        (1, Path, "a path"),
        ("", Path, "a path"),
        ([1, "x"], tuple[int, ...], "a whole number"),
        ({"a": 1}, tuple[int, ...], "a whole number"),
        ("c", Literal["a", "b"], "choose a, b"),
        ([1], Literal["a", "b"], "choose a, b"),
    ],
)
def test_other_types_are_refused(value: Any, kind: Any, expected: str) -> None:
    """The message has the option, the value and what was expected."""
    with pytest.raises(ConfigError, match=expected) as caught:
        as_kind(value, kind, called="--option")
    assert str(caught.value).startswith("--option is ")


@pytest.mark.parametrize("content", [b"lr = ", b"= 3", b"lr = 1\nlr = 2", b"\xff\xfe", b"lr 3"])
def test_broken_run_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """The message names the file."""
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml is no TOML"):
        read_run_file(path)


def test_a_missing_run_file_is_refused(tmp_path: Path) -> None:
    """So is a folder."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="Cannot read the run file"):
            read_run_file(path)

"""The grammar of class lists."""

from pathlib import Path

import pytest

from atas_deploy.core.classes import ClassSpec, parse_classes
from atas_deploy.core.errors import ConfigError


def test_commas_and_synonyms() -> None:
    """Commas separate classes, bars separate synonyms, white space is collapsed."""
    assert parse_classes(" dog | puppy,  traffic   light ") == (
        ClassSpec("dog", ("dog", "puppy")),
        ClassSpec("traffic light", ("traffic light",)),
    )


def test_sequence_keeps_commas() -> None:
    """Items of a sequence are classes of their own, whatever they hold."""
    assert [spec.name for spec in parse_classes(["salt, pepper", "dog"])] == ["salt, pepper", "dog"]


def test_file(tmp_path: Path) -> None:
    """A file has one class a line; blanks, comments and a byte-order mark are skipped."""
    path = tmp_path / "names.txt"
    path.write_text("\ufeff# animals\ndog|puppy\n\n  cat \n", encoding="utf-8")
    assert [spec.synonyms for spec in parse_classes(f"@{path}")] == [("dog", "puppy"), ("cat",)]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("", "class list is empty"),
        ("  ", "class list is empty"),
        ([], "class list is empty"),
        ("dog,,cat", "Item 2 of the class list is empty"),
        ("dog|,cat", "empty synonym"),
        ("dog,Dog", '"Dog" is given twice'),
        ("dog|cat,cat", '"cat" is given twice'),
        ("dog|dog", '"dog" is given twice'),
        ("@no/such/file", "No such file"),
        (["dog", 3], "must be a string"),
        (None, "Got NoneType"),
        (Path("dog"), "expected a string or a list"),
        ({"dog", "cat"}, "Got set"),
        ([str(i) for i in range(65_535)], "65534 at most"),
    ],
)
def test_bad_lists(classes: str, message: str) -> None:
    """Each mistake has its sentence."""
    with pytest.raises(ConfigError, match=message):
        parse_classes(classes)


def test_long_names_are_cut_in_messages() -> None:
    """A 5,000-character name does not flood the terminal."""
    with pytest.raises(ConfigError) as caught:
        parse_classes(["x" * 5000, "x" * 5000])
    assert len(str(caught.value)) < 400

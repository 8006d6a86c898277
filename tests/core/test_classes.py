"""The grammar of class lists."""

from pathlib import Path

import pytest

from atas_deploy.core.classes import ClassSpec, parse_classes, read_class_list
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
        ("cat," + "x" * 1_001, r'Class 2 \("x{59}…"\) has 1,001 characters'),
        ("dog,\udcff", "Class 2 .* not valid Unicode"),
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


def test_long_names_are_kept() -> None:
    """1,000 characters are a name still."""
    assert len(parse_classes("x" * 1_000)[0].name) == 1_000


JSON = """
{"background": ["road", "wall"],
 "classes": ["dog|puppy", {"name": "cat", "synonyms": ["cat", "kitten"], "color": "#FF0080"},
             {"name": "red  panda", "color": [1, 2, 3]}]}
"""
TOML = """
background = ["road", "wall"]
classes = ["dog|puppy", {name = "cat", synonyms = ["kitten"], color = [255, 0, 128]},
    {name = "red panda", color = "#010203"}]
"""


@pytest.mark.parametrize(("name", "text"), [("mine.json", JSON), ("mine.TOML", TOML)])
def test_json_and_toml(tmp_path: Path, name: str, text: str) -> None:
    """Names, synonyms, colours and the background come from the file."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_class_list(f"@{tmp_path / name}")
    assert found.specs == (
        ClassSpec("dog", ("dog", "puppy")),
        ClassSpec("cat", ("cat", "kitten"), (255, 0, 128)),
        ClassSpec("red panda", ("red panda",), (1, 2, 3)),
    )
    assert found.background == ("road", "wall")
    assert found.name == name


def test_toml_tables_and_bare_json_list(tmp_path: Path) -> None:
    """`[[classes]]` and a JSON list without a table around it are lists, too."""
    (tmp_path / "a.toml").write_text('[[classes]]\nname = "dog"\n[[classes]]\nname = "cat"\n')
    (tmp_path / "b.json").write_text('[{"name": "dog"}, {"name": "cat"}]')
    assert parse_classes(f"@{tmp_path / 'a.toml'}") == parse_classes(f"@{tmp_path / 'b.json'}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[" + "1" * 5_000 + "]", "not valid JSON"),
        ("[]", "class list is empty"),
        ("3", '"classes" of .* of type int; expected a list'),
        ('{"classes": "dog"}', "of type str; expected a list"),
        ('{"names": ["dog"]}', 'unknown key "names"; known are classes, background'),
        ('["dog", 3]', "Class 2 of .* of type int"),
        ('["dog", {}]', 'Class 2 of .* has no "name"'),
        ('["dog", {"name": 3}]', 'Class 2 of .* has no "name"'),
        ('[{"name": " "}]', "Class 1 of .* empty synonym"),
        ('[{"name": "dog", "synonyms": 3}]', "Class 1 of .* words that are not text"),
        ('[{"name": "dog", "synonyms": [""]}]', "Class 1 of .* an empty word"),
        ('[{"name": "dog", "colour": "#ffffff"}]', 'Class 1 of .* unknown key "colour"'),
        ('[{"name": "dog", "color": "red"}]', "Class 1 of .* the colour 'red'"),
        ('[{"name": "dog", "color": [0, 0, 256]}]', "Class 1 of .* 0 to 255"),
        ('[{"name": "dog", "color": [0, 0, true]}]', "Class 1 of .* 0 to 255"),
        ('["dog", "Dog"]', "is given twice"),
        ('{"classes": ["dog"], "background": ["Dog"]}', "both a class and a background word"),
        ('{"classes": ["dog"], "background": [1]}', "background of .* not text"),
        ('["\\ud800"]', "not valid Unicode"),
    ],
)
def test_bad_json(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake has its sentence, with the number of the entry."""
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse_classes(f"@{path}")


def test_bad_toml(tmp_path: Path) -> None:
    """A TOML file that is none says where."""
    path = tmp_path / "mine.toml"
    path.write_text("classes = [")
    with pytest.raises(ConfigError, match="not valid TOML"):
        parse_classes(f"@{path}")


def test_binary_and_huge_files_are_refused(tmp_path: Path) -> None:
    """Neither a picture nor an endless file is a class list."""
    path = tmp_path / "photo.txt"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        parse_classes(f"@{path}")
    with path.open("wb") as stream:
        stream.truncate(65 * 2**20)
    with pytest.raises(ConfigError, match="larger than 64 MiB"):
        parse_classes(f"@{path}")


def test_bare_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list wins over a file of its name; `@./voc20` is the file; other bare names are files."""
    monkeypatch.chdir(tmp_path)
    Path("voc20").write_text("dog")
    Path("mine").write_text("cat")
    assert len(parse_classes("@voc20")) == 20
    assert parse_classes("@./voc20") == (ClassSpec("dog", ("dog",)),)
    assert parse_classes("@mine") == (ClassSpec("cat", ("cat",)),)

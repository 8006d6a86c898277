"""Whatever the user writes as words, the answer is a vocabulary or one `ConfigError`."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atas_deploy.core.classes import ClassSpec, read_class_list
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.palette import class_palette_for
from atas_deploy.core.templates import fill, resolve_templates
from atas_deploy.core.vocabulary import build_vocabulary

MANY = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# characters that mean something, and some that are hard to print, to fold or to encode
ALPHABET = st.sampled_from([*"aB ,|@#:{}\\/.\"'=[]\n\t\0", "é", "ß", "İ", "\u200b", "犬", "\ud800"])
TEXT = st.text(st.one_of(ALPHABET, st.characters()), max_size=30)
WORD = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
COLOR = st.tuples(*[st.integers(0, 255)] * 3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "synonyms", "color", "classes", "background"]) | TEXT,
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def try_vocabulary(classes: Any, background: Any = "auto") -> None:
    """Build a vocabulary; if it works, everything that a run asks of it works."""
    try:
        vocabulary = build_vocabulary(classes, background=background)
    except ConfigError as exc:
        message = str(exc)
        assert message
        assert message.endswith((".", "?"))
        assert len(message) < 1_000
        message.encode()
        return
    assert len(vocabulary.query_class) == len(vocabulary.queries)
    assert len(vocabulary.hash) == 16
    assert len(class_palette_for(vocabulary.classes)) == len(vocabulary.names) + 1
    folded = [query.casefold() for query in vocabulary.queries]
    assert len(set(folded)) == len(folded) or vocabulary.rule == "auto"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, so that no `@name` is a file."""
    monkeypatch.chdir(tmp_path)


@MANY
@given(TEXT, TEXT)
@example("@", "auto")
@example("@\0.txt", "none")
@example("@.", "none")
@example("dog", "@")
@example("dog", "@\0")
@example("\udcff", "none")
@example("x" * 5_000, "y" * 5_000)
@example("@" + "x" * 5_000 + ".txt", "@" + "x" * 5_000)
@example("ß,SS", "none")
def test_any_strings(classes: str, background: str) -> None:
    """Strings for classes and background."""
    try_vocabulary(classes, background)


@MANY
@given(st.lists(TEXT, max_size=6), st.lists(TEXT, max_size=4))
def test_any_sequences(classes: list[str], background: list[str]) -> None:
    """Sequences for both."""
    try_vocabulary(classes, background)


@MANY
@given(JSON)
def test_any_objects(value: Any) -> None:
    """What a program may pass by mistake."""
    try_vocabulary(value)
    try_vocabulary("dog,cat", value)


@MANY
@given(JSON)
def test_any_json(tmp_path: Path, value: Any) -> None:
    """Any JSON document."""
    path = tmp_path / "list.json"
    path.write_text(json.dumps(value))
    try_vocabulary(f"@{path}")


@MANY
@given(st.binary(max_size=60) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'classes = ["dog", "cat"]\n')
@example(b"classes = [{name = '\xed\xa0\x80'}]")
@example(b"a." * 5_000 + b"a = 1")
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    """Any bytes in a text, JSON or TOML file, for classes, background and templates."""
    for suffix in (".txt", ".json", ".toml"):
        path = tmp_path / f"list{suffix}"
        path.write_bytes(data)
        try_vocabulary(f"@{path}", f"@{path}")
        try_vocabulary(f"@{path}")


@MANY
@given(TEXT | st.lists(TEXT, max_size=3), TEXT)
@example("{}{article}", "{}")
@example("@\0", "dog")
def test_any_templates(templates: str | list[str], word: str) -> None:
    """Templates are refused, or take any word."""
    try:
        found = resolve_templates(templates)
    except ConfigError as exc:
        str(exc).encode()
        return
    assert all(word in fill(prompt, word) for prompt in found.prompts)


SPECS = st.lists(
    st.builds(
        lambda words, color: ClassSpec(words[0], tuple(words), color),
        st.lists(WORD, min_size=1, max_size=3),
        st.none() | COLOR,
    ),
    min_size=1,
    max_size=6,
).filter(
    lambda specs: (
        len({word.casefold() for spec in specs for word in spec.synonyms})
        == sum(len(spec.synonyms) for spec in specs)
    )
)


@MANY
@given(SPECS)
def test_round_trips(tmp_path: Path, specs: list[ClassSpec]) -> None:
    """A list written in any of the grammars is read as it was."""
    expected = tuple(specs)
    plain = tuple(ClassSpec(spec.name, spec.synonyms) for spec in specs)
    items = ["|".join(spec.synonyms) for spec in specs]
    (tmp_path / "list.txt").write_text("\n".join(items), encoding="utf-8")
    entries = [
        {"name": spec.name, "synonyms": list(spec.synonyms[1:]), "color": spec.color}
        for spec in specs
    ]
    (tmp_path / "list.json").write_text(json.dumps({"classes": entries}))
    assert read_class_list(",".join(items)).specs == plain
    assert read_class_list(items).specs == plain
    assert read_class_list(f"@{tmp_path / 'list.txt'}").specs == plain
    assert read_class_list(f"@{tmp_path / 'list.json'}").specs == expected

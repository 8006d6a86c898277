"""Background rules and queries."""

from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.background import TABLE, uncovered_words
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.vocabulary import build_vocabulary


def test_queries_are_grouped_by_class() -> None:
    """Background queries come first, then class by class."""
    vocabulary = build_vocabulary("dog|puppy,grass", background="road,wall")
    assert vocabulary.queries == ("road", "wall", "dog", "puppy", "grass")
    np.testing.assert_array_equal(vocabulary.query_class, [0, 0, 1, 1, 2])
    assert vocabulary.rule == "list"


def test_no_background() -> None:
    """With `none` no query has class 0."""
    vocabulary = build_vocabulary("dog,grass", background="none")
    np.testing.assert_array_equal(vocabulary.query_class, [1, 2])


@pytest.mark.parametrize(
    ("asked", "removed"),
    [
        ("dog", "dog"),
        ("Dogs", "dog"),
        ("puppies", "dog"),
        ("animal", "cat"),
        ("red car", "car"),
        ("men", "man"),
        ("person", "child"),
        ("plant", "grass"),
        ("labradors", "dog"),
        ("lorry", "truck"),
        ("aeroplanes", "airplane"),
        ("grey armchair", "chair"),
        ("drapery", "curtain"),
        ("dirt track", "road"),
        ("buses", "bus"),
        ("geese", "bird"),
        ("calves", "cow"),
        ("pavement", "sidewalk"),
        ("windowpane", "window"),
        ("signboard", "sign"),
        ("bannister", "fence"),
        ("motorbikes", "motorcycle"),
    ],
)
def test_asked_words_leave_the_background(asked: str, removed: str) -> None:
    """A word, its plural, its kinds and what it is a kind of do not compete with it."""
    kept, gone = uncovered_words([asked])
    assert removed in gone
    assert removed not in kept
    assert set(kept) | set(gone) == set(TABLE)


@pytest.mark.parametrize("phrase", ["hot dog", "sea lion", "Dog House", "glasses"])
def test_compounds_are_no_kind_of_their_last_word(phrase: str) -> None:
    """A hot dog is no dog, and glasses are no glass."""
    _, gone = uncovered_words([phrase])
    assert set(gone) <= {"food"}


def test_table_is_clean() -> None:
    """Words and covers are lower case, without repeats; a word does not list itself."""
    for word, covers in TABLE.items():
        listed = covers.split(", ")
        assert len(listed) == len(set(listed)), word
        assert word not in listed
        assert covers == " ".join(covers.lower().split())


def test_colours_and_lists_reach_the_vocabulary(tmp_path: Path) -> None:
    """A list's colours and background come through; its file names the rule."""
    path = tmp_path / "mine.toml"
    path.write_text('background = ["road"]\nclasses = [{name = "dog", color = "#010203"}]\n')
    vocabulary = build_vocabulary(f"@{path}")
    assert vocabulary.classes[0].color == (1, 2, 3)
    assert (vocabulary.rule, vocabulary.queries) == ("mine.toml", ("road", "dog"))


def test_ten_thousand_classes() -> None:
    """A long list keeps its order and its background."""
    vocabulary = build_vocabulary([f"thing {i}" for i in range(9_999)] + ["dog"])
    assert vocabulary.query_class[-1] == 10_000
    assert vocabulary.removed == ("dog",)


def test_background_lists_may_join_words() -> None:
    """`|` separates background words too; the rules are known in any case."""
    assert build_vocabulary("dog", background="road|street,wall").background == (
        "road",
        "street",
        "wall",
    )
    assert build_vocabulary("dog,cat", background="None").rule == "none"


def test_unrelated_words_stay() -> None:
    """Asking for dogs keeps the road."""
    kept, gone = uncovered_words(["dog"])
    assert gone == ("dog",)
    assert "road" in kept


def test_hash_depends_on_grouping() -> None:
    """The hash names the queries and the class of each."""
    one = build_vocabulary("dog|puppy,cat", background="none")
    two = build_vocabulary("dog,puppy,cat", background="none")
    assert one.queries == two.queries
    assert one.hash != two.hash


@pytest.mark.parametrize(
    ("classes", "background", "message"),
    [
        ("dog", "none", "nothing to compete"),
        ("dog|puppy", "none", "nothing to compete"),
        ("dog", "", "background list is empty"),
        ("dog", "road|", "empty synonym"),
        ("dog", "road,dog", "both a class and a background word"),
    ],
)
def test_bad_backgrounds(classes: str, background: str, message: str) -> None:
    """Each mistake has its sentence."""
    with pytest.raises(ConfigError, match=message):
        build_vocabulary(classes, background=background)

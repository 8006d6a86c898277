"""The built-in class lists: order, names, colours, backgrounds."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from atas_deploy.core.class_lists import FOLDER, list_info
from atas_deploy.core.classes import list_names, parse_classes, read_class_list
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.vocabulary import build_vocabulary

SIZES = {
    "ade20k": 150,
    "cityscapes": 19,
    "coco-object": 80,
    "coco-panoptic": 133,
    "coco-stuff": 171,
    "context59": 59,
    "context60": 59,
    "lvis": 1203,
    "voc20": 20,
    "voc21": 20,
}
COLOURED = {"ade20k", "cityscapes", "coco-object", "coco-panoptic", "voc20", "voc21"}


def names(name: str) -> list[str]:
    """Names of the classes of a list."""
    return [spec.name for spec in parse_classes(f"@{name}")]


def test_all_lists_are_there() -> None:
    """Each data set of the documentation has its list."""
    assert list_names() == list(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_plain_and_expanded(name: str) -> None:
    """Both have all classes, the plain one a word each; the expanded one has more words."""
    plain, expanded = read_class_list(f"@{name}"), read_class_list(f"@{name}:expanded")
    assert len(plain.specs) == len(expanded.specs) == SIZES[name]
    assert all(spec.synonyms == (spec.name,) for spec in plain.specs)
    assert [spec.color for spec in plain.specs] == [spec.color for spec in expanded.specs]
    assert all((spec.color is not None) == (name in COLOURED) for spec in plain.specs)
    assert list_info(name).words > SIZES[name]
    assert (plain.name, expanded.name) == (name, f"{name}:expanded")


@pytest.mark.parametrize("name", SIZES)
def test_documented_numbers(name: str) -> None:
    """docs/words.md has the sizes of each list."""
    page = Path(__file__).parents[2] / "docs" / "words.md"
    info = list_info(name)
    row = f"| `@{name}` | {info.classes:,} | {info.words:,} |"
    assert row in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_files_name_their_source(path: Path) -> None:
    """A file says where its names come from, and has no key that nothing reads."""
    assert path.read_text(encoding="utf-8").startswith("# ")
    known = {"title", "source", "classes", "classes_of", "background", "expanded_background"}
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    assert {"title", "source"} <= data.keys() <= known


@pytest.mark.parametrize(
    ("name", "index", "expected", "color"),
    [  # 1-based, as in the label maps of the data sets
        ("voc20", 5, "bottle", (128, 0, 128)),
        ("voc21", 11, "dining table", (192, 128, 0)),
        ("voc20", 20, "tv monitor", (0, 64, 128)),
        ("context59", 19, "computer", None),
        ("context60", 59, "wood", None),
        ("cityscapes", 9, "vegetation", (107, 142, 35)),
        ("cityscapes", 19, "bicycle", (119, 11, 32)),
        ("ade20k", 13, "person", (150, 5, 61)),
        ("ade20k", 90, "television receiver", (0, 255, 194)),
        ("ade20k", 150, "flag", (92, 0, 255)),
        ("coco-object", 80, "toothbrush", (191, 162, 208)),
        ("coco-panoptic", 101, "road", (128, 64, 128)),
        ("coco-stuff", 81, "banner", None),
        ("coco-stuff", 154, "table", None),
        ("coco-stuff", 171, "wood", None),
        ("lvis", 1203, "zucchini", None),
    ],
)
def test_order(name: str, index: int, expected: str, color: tuple[int, int, int] | None) -> None:
    """Classes and colours stand where the data set has them."""
    spec = parse_classes(f"@{name}")[index - 1]
    assert (spec.name, spec.color) == (expected, color)


def test_coco_lists_agree() -> None:
    """The 80 things come first, in one order, in all three lists."""
    things = names("coco-object")
    assert names("coco-panoptic")[:80] == names("coco-stuff")[:80] == things


def readable(name: str) -> str:
    """COCO's category name without what marks merged classes."""
    for suffix in ("-merged", "-other", "-stuff"):
        name = name.replace(suffix, "")
    return name.replace("playingfield", "playing field").replace("-", " ")


def test_panoptic_order_is_that_of_coco(shared_data: Path) -> None:
    """The list equals the categories of a COCO panoptic file, by id."""
    text = (shared_data / "coco_panoptic_100" / "panoptic.json").read_text()
    categories = sorted(json.loads(text)["categories"], key=lambda category: category["id"])
    assert names("coco-panoptic") == [readable(category["name"]) for category in categories]


def test_lvis_order_and_synonyms(shared_data: Path) -> None:
    """The list equals LVIS's categories, by id; few names differ, to be told apart."""
    text = (shared_data / "text_embeddings" / "lvis_v1_train_cat_info.json").read_text()
    categories = sorted(json.loads(text), key=lambda category: category["id"])
    changed = []
    for spec, category in zip(parse_classes("@lvis:expanded"), categories, strict=True):
        name, *others = (
            re.sub(r"[ _]*\([^)]*\)", "", word).replace("_", " ").strip()
            for word in (category["name"], *category["synonyms"])
        )
        assert set(spec.synonyms) - {spec.name} <= set(others)
        if spec.name != name:
            changed.append(spec.name)
            assert name.split()[0] in spec.name
    assert len(changed) == 8


def test_backgrounds() -> None:
    """Lists with a background bring it: the literal word, or the 26 scene words of SCLIP."""
    assert read_class_list("@voc21").background == ("background",)
    assert len(read_class_list("@voc21:expanded").background) == 26
    assert read_class_list("@context60:expanded").background == ("background",)
    assert "bed" not in read_class_list("@coco-object:expanded").background
    assert read_class_list("@voc20:expanded").background == ()


def test_auto_background_is_the_lists_own() -> None:
    """`auto` takes the list's background and its name as the rule; lists without get the table."""
    own = build_vocabulary("@voc21:expanded")
    assert own.rule == "voc21:expanded"
    assert len(own.queries) == 56  # as in the published protocol
    assert build_vocabulary("@voc20").rule == "auto"
    assert build_vocabulary("@voc21", background="none").background == ()
    assert build_vocabulary("@voc21", background="road").background == ("road",)


def test_names_in_any_case() -> None:
    """`@COCO_Stuff:Expanded` is found."""
    assert read_class_list("@COCO_Stuff:Expanded").name == "coco-stuff:expanded"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("@voc", r"did you mean @voc2[01]\?"),
        ("@coco-panoptc", "did you mean @coco-panoptic"),
        ("@voc21:expnded", "did you mean @voc21:expanded"),
        ("@voc21:expanded:expanded", "Unknown class list"),
        ("@:expanded", "Unknown class list"),
        ("@", "Known are @ade20k"),
        ("@" + "x" * 5_000, "Unknown class list"),
    ],
)
def test_unknown_lists(name: str, message: str) -> None:
    """The sentence names the lists, and a similar one."""
    with pytest.raises(ConfigError, match=message) as caught:
        parse_classes(name)
    assert len(str(caught.value)) < 500

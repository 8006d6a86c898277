"""Presets: published settings by class list."""

import re
from pathlib import Path

import pytest

from atas_deploy.core.classes import list_names
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.presets import PRESETS, Protocol, choose_protocol
from atas_deploy.core.vocabulary import build_vocabulary

PUBLISHED = {
    "voc20",
    "voc21",
    "context59",
    "context60",
    "coco-object",
    "coco-stuff",
    "ade20k",
    "cityscapes",
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_all_data_sets(preset: str) -> None:
    """The eight of the papers, which are built-in lists, and a general row."""
    assert set(PRESETS[preset]) == {"", *PUBLISHED}
    assert set(list_names()) >= PUBLISHED


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["", *sorted(PUBLISHED)])
def test_only_lists_with_background_have_a_threshold(preset: str, name: str) -> None:
    """A data set without background gives every pixel a class."""
    protocol = PRESETS[preset][name]
    with_background = name in ("voc21", "context60", "coco-object")
    assert (protocol.threshold is not None) == with_background
    assert (protocol.background == "none") == (bool(name) and not with_background)


@pytest.mark.parametrize(
    ("preset", "classes", "words", "background"),
    [
        ("sclip", "@voc21", 56, 26),
        ("sclip", "@voc20", 30, 0),
        ("naclip", "@coco-object", 87 + 25, 25),  # 113 in the papers, "bed" twice
        ("clearclip", "@voc21", 21, 1),
        ("clearclip", "@coco-object", 81, 1),
        ("sclip", "@context60", 60, 1),
    ],
)
def test_words_are_those_of_the_papers(
    preset: str, classes: str, words: int, background: int
) -> None:
    """As many as their lists of names have."""
    choice = choose_protocol(preset, classes)
    vocabulary = build_vocabulary(choice.classes, background=choice.protocol.background)
    assert (len(vocabulary.queries), len(vocabulary.background)) == (words, background)


@pytest.mark.parametrize(
    ("classes", "row", "used"),
    [
        ("@voc21", "voc21", "@voc21:expanded"),
        ("@VOC21", "voc21", "@voc21:expanded"),
        ("@voc21:expanded", "voc21", "@voc21:expanded"),
        ("@coco_object", "coco-object", "@coco-object:expanded"),
        ("@ade20k", "ade20k", "@ade20k"),
        ("@ade20k:expanded", "ade20k", "@ade20k:expanded"),
        ("@lvis", "", "@lvis"),
        ("@./voc21", "", "@./voc21"),
        ("voc21,dog", "", "voc21,dog"),
        (["dog", "grass"], "", ["dog", "grass"]),
    ],
)
def test_the_list_chooses_the_row(classes: object, row: str, used: object) -> None:
    """Plain names become those of the protocol; what is spelled out stays."""
    choice = choose_protocol("sclip", classes)
    assert (choice.row, choice.classes) == (row, used)


def test_no_preset_changes_nothing() -> None:
    """The ordinary settings, and the list as it is."""
    choice = choose_protocol(None, "@voc21")
    assert (choice.row, choice.classes, choice.protocol) == ("", "@voc21", Protocol())


def test_unknown_presets_say_what_is_known() -> None:
    """The message lists them."""
    with pytest.raises(ConfigError, match="maskclip, sclip, clearclip, naclip"):
        choose_protocol("sclpi", "dog")


def test_the_page_has_the_values() -> None:
    """The table of docs/protocols.md, row by row."""
    page = Path(__file__).resolve().parents[2] / "docs" / "protocols.md"
    told: dict[str, dict[str, tuple[str, ...]]] = {}
    preset = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        row = tuple(cell.strip() for cell in line.strip("|").split("|"))
        if len(row) == 9 and row[2].isdigit():
            preset = row[0] or preset
            for name in re.findall(r"@([\w-]+)", row[1]) or [""]:
                told.setdefault(preset, {})[name] = row[2:]
    assert told == {
        preset: {name: _as_told(name, protocol) for name, protocol in rows.items()}
        for preset, rows in PRESETS.items()
    }


def _as_told(name: str, protocol: Protocol) -> tuple[str, ...]:
    own = {"voc21": "26 words", "coco-object": "25 words"} if protocol.expanded else {}
    listed = name in ("voc21", "context60", "coco-object")
    background = own.get(name, '"background"' if listed else protocol.background)
    return (
        str(protocol.short_side),
        f"{protocol.window}, {protocol.stride}" if protocol.window else "whole",
        str(protocol.logit_scale),
        ("E" if protocol.expanded else "plain") if name else "as given",
        str(background),
        str(protocol.threshold or ""),
        protocol.refine.replace("none", ""),
    )

"""Words of the objects of a video data set."""

import json
from pathlib import Path

import pytest

from atas_deploy.core.errors import AnnotationError
from atas_deploy.evaluation.object_words import read_words


def test_words_from_json_and_csv(tmp_path: Path) -> None:
    """Both say the same; a word alone is that of object 1."""
    table = {"bear": "bear", "bmx": {"1": " person ", "2": "bicycle|bike", "3": None}}
    (tmp_path / "w.json").write_text(json.dumps(table))
    lines = ["sequence,object,words", "bear,1,bear", "bmx,1,person", "bmx,2,bicycle|bike", "bmx,3,"]
    (tmp_path / "w.csv").write_text("\n".join(lines))
    expected = {"bear": {1: "bear"}, "bmx": {1: "person", 2: "bicycle|bike", 3: None}}
    assert read_words(tmp_path / "w.json") == expected
    assert read_words(tmp_path / "w.csv") == expected


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("w.json", '{"bear": ', "damaged or no JSON"),
        ("w.json", "[1]", r"holds \[1\], expected a table"),
        ("w.json", "{}", "names no sequence"),
        ("w.json", '{"bear": {"1": 5}}', 'sequence "bear" has 5, expected a word'),
        ("w.json", '{"bear": {"0": "bear"}}', 'has the object "0"'),
        ("w.json", '{"bear": {"x": "bear"}}', 'has the object "x"'),
        ("w.json", '{"bear": null}', '"bear" has no word'),
        ("w.json", '{"bear": {"1": "bear", "01": "cub"}}', "names object 1 twice"),
        ("w.csv", "sequence,words\nbear,bear", "has no column object"),
        ("w.csv", "sequence,object,words\nbear,,bear", 'line 2 has the object ""'),
        ("w.csv", "sequence,object,words\nbear", "line 2 has the object null"),
    ],
)
def test_damaged_words_are_named(tmp_path: Path, name: str, text: str, match: str) -> None:
    """The sentence names the file and the entry."""
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=match) as caught:
        read_words(tmp_path / name)
    assert name in str(caught.value)

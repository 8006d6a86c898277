"""`atas-deploy classes`."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from atas_deploy.cli.main import main
from atas_deploy.core.class_lists import list_names
from atas_deploy.core.classes import read_class_list
from atas_deploy.core.palette import class_palette_for


def run(*args: str, color: bool = False) -> Result:
    """Invoke the command."""
    return CliRunner().invoke(main, ["classes", *args], color=color)


def test_all_lists() -> None:
    """Each list has a line with its size, and its source."""
    result = run()
    assert result.exit_code == 0
    for name in list_names():
        assert f"@{name} " in result.output
    assert "1203 classes" in result.output
    infos = json.loads(run("--json").output)
    assert [info["name"] for info in infos] == list_names()
    assert infos[-1]["background"] is True


def test_one_list() -> None:
    """Its classes with numbers and colours, its background last; the @ may be left out."""
    result = run("@voc21:expanded")
    assert "    4    #000080  ship" in result.output
    assert result.output.splitlines()[-1].startswith("background: sky, wall")
    assert run("VOC21:expanded").output == result.output


def test_colours_on_a_terminal() -> None:
    """Squares in the colours of the overlays."""
    assert "\x1b[48;2;128;0;0m  \x1b[0m #800000  aeroplane" in run("@voc20", color=True).output
    assert "\x1b" not in run("@voc20").output


def test_own_words() -> None:
    """Anything that --classes takes can be looked at."""
    assert "dog | puppy" in run("dog|puppy,cat").output


def test_json_is_a_list(tmp_path: Path) -> None:
    """What is printed can be edited and used: the same words, background and colours."""
    path = tmp_path / "mine.json"
    path.write_text(run("@coco-object:expanded", "--json").output)
    mine, theirs = read_class_list(f"@{path}"), read_class_list("@coco-object:expanded")
    assert (mine.specs, mine.background) == (theirs.specs, theirs.background)
    path.write_text(run("dog|puppy,cat", "--json").output)
    palette = class_palette_for(read_class_list("dog,cat").specs)
    assert (class_palette_for(read_class_list(f"@{path}").specs) == palette).all()


def test_unknown_list_is_one_sentence() -> None:
    """No traceback."""
    result = run("@voc22")
    assert result.exit_code == 2
    assert result.output.startswith('Error: Unknown class list "@voc22"')

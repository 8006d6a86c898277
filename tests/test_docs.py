"""The pages of the commands tell the truth about the options; links and pictures of docs/ exist."""

import re
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import click
import pytest

from atas_deploy.cli.evaluate.group import TASKS
from atas_deploy.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COMMAND_PAGES = DOCS / "commands"
LARGEST_PICTURE = 120_000  # bytes; they are part of every clone
NAMES = [name for name in COMMANDS if name != "eval"] + [f"eval {task}" for task in TASKS]


def page_of(name: str) -> str:
    """The text of the page of a command, or its part for a task of `eval`, headings raised."""
    name, _, task = name.partition(" ")
    page = (COMMAND_PAGES / f"{name}.md").read_text(encoding="utf-8")
    if not task:
        return page
    part = re.search(rf"^## eval {task}$(.*?)(?=^## eval |\Z)", page, re.M | re.S)
    assert part, f"{name}.md has no part on {task}"
    return part[1].replace("\n### ", "\n## ")


def parameters(name: str) -> list[click.Option]:
    """The options of a command, in the order of its help."""
    parent, command = click.Context(main, **main.context_settings), None
    for part in name.split():
        group = command or main
        assert isinstance(group, click.Group)
        command = group.get_command(parent, part)
    assert command is not None
    command = copy(command)
    command._help_option = None  # click keeps the spelling of the first context that asked
    found = command.get_params(click.Context(command, parent=parent))
    return [option for option in found if isinstance(option, click.Option) and not option.hidden]


def spellings(name: str) -> list[str]:
    """All spellings of the options of a command."""
    return [text for option in parameters(name) for text in (*option.opts, *option.secondary_opts)]


def explained(page: str) -> list[str]:
    """The options that the list items of a page begin with, each once."""
    heads = [item.split(": ")[0] for item in re.findall(r"^- `-.*$", page, re.M)]
    named = [name for head in heads for name in re.findall(r"`(--?[a-z][a-z0-9-]*)", head)]
    return list(dict.fromkeys(named))


def anchors(page: str) -> set[str]:
    """What links may name behind "#": headings as GitHub spells them."""
    titles = re.findall(r"^#+ (.*)$", page, re.M)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


def links() -> Iterator[tuple[Path, str]]:
    """Page and target of every relative link and picture."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))):
        text = re.sub(r"^    .*$", "", path.read_text(encoding="utf-8"), flags=re.M)
        for target in re.findall(r"\]\(\s*([^)\s]+)\)", text):
            if not re.match(r"[a-z]+:", target):
                yield path, target


def test_every_command_has_a_page() -> None:
    """There are as many pages as commands, named as they are."""
    assert {path.stem for path in COMMAND_PAGES.glob("*.md")} == set(COMMANDS)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_explained_in_order(name: str) -> None:
    """The list of a page is that of `--help`: all options, in its order, and no others."""
    assert explained(page_of(name)) == spellings(name)


@pytest.mark.parametrize("name", NAMES)
def test_no_option_is_made_up(name: str) -> None:
    """An option that a page mentions exists, of this command or of one that it tells about."""
    known = {text for command in NAMES for text in spellings(command)}
    known.add("--nproc-per-node")  # torchrun's
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", page_of(name))) <= known


@pytest.mark.parametrize("name", NAMES)
def test_pages_follow_the_sections_of_the_help(name: str) -> None:
    """A heading for each section of `--help`, in the same order."""
    sections = dict.fromkeys(getattr(option, "section", "Options") for option in parameters(name))
    if len(sections) > 1:
        del sections["Options"]  # --help itself, which ends the last section
    titles = re.findall(r"^## (.*)$", page_of(name), re.M)
    assert [title for title in titles if title in sections] == list(sections)


@pytest.mark.parametrize("name", NAMES)
def test_choices_are_named(name: str) -> None:
    """A page names every value that an option can have."""
    for option in parameters(name):
        for choice in getattr(option.type, "choices", ()):
            assert choice in page_of(name), f"{option.opts[-1]} {choice}"


@pytest.mark.parametrize(
    ("path", "target"), list(links()), ids=lambda part: getattr(part, "stem", part)
)
def test_links_lead_somewhere(path: Path, target: str) -> None:
    """A relative link names a file that exists and, behind "#", a heading of it."""
    file, _, anchor = target.partition("#")
    page = (path.parent / file).resolve() if file else path
    assert page.exists()
    assert not anchor or anchor in anchors(page.read_text(encoding="utf-8"))


def test_gallery_pictures_come_from_its_commands() -> None:
    """Each command of the gallery makes a picture that is shown; each picture is small."""
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    pictures = list((DOCS / "gallery").iterdir())
    made = re.findall(r"^    atas-deploy (?:segment|visualize) .* --out (\w+)$", page, re.M)
    shown = re.findall(r"\]\(gallery/(\w+)\.jpg\)", page)
    assert made == shown
    assert sorted(path.name for path in pictures) == sorted(f"{name}.jpg" for name in shown)
    assert max(path.stat().st_size for path in pictures) <= LARGEST_PICTURE

"""Prompt templates by name, from files and given directly."""

from pathlib import Path

import pytest

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.templates import (
    DEFAULT_TEMPLATES,
    fill,
    resolve_templates,
    template_names,
)


def test_sets() -> None:
    """The sets have the sizes they are known by."""
    sizes = {name: len(resolve_templates(name).prompts) for name in template_names()}
    assert sizes == {"default": 4, "none": 1, "clipself": 63, "imagenet": 80, "simple": 7}
    assert resolve_templates("None").prompts == ("{}",)
    assert resolve_templates("default").prompts == DEFAULT_TEMPLATES


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("imagenet", "OPENAI_IMAGENET_TEMPLATES"), ("simple", "SIMPLE_IMAGENET_TEMPLATES")],
)
def test_clip_sets_equal_open_clip(name: str, theirs: str) -> None:
    """The sets of CLIP are those of open_clip, in order."""
    metadata = pytest.importorskip("open_clip.zero_shot_metadata")
    expected = tuple(template("dog") for template in getattr(metadata, theirs))
    assert tuple(fill(t, "dog") for t in resolve_templates(name).prompts) == expected


def test_articles() -> None:
    """`{article}` agrees with the word, and a word is never taken for a placeholder."""
    template = resolve_templates("clipself").prompts[0]
    assert fill(template, "apple") == "There is an apple in the scene."
    assert fill(template, "Dog") == "There is a Dog in the scene."
    assert fill(template, "{article}") == "There is a {article} in the scene."


def test_own_templates(tmp_path: Path) -> None:
    """A sentence, a sequence or a file; repeats count once."""
    assert resolve_templates("a map of {}").prompts == ("a map of {}",)
    assert resolve_templates(["{}", "a {}", "{}"]).prompts == ("{}", "a {}")
    assert resolve_templates(["{}"]).name == "custom"
    path = tmp_path / "mine.txt"
    path.write_text("# aerial\n\nan aerial photo of {}\n")
    found = resolve_templates(f"@{path}")
    assert (found.name, found.prompts) == ("mine.txt", ("an aerial photo of {}",))


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("imagnet", r'Unknown templates "imagnet": .* \(did you mean "imagenet"\?\)'),
        ("", "Unknown templates"),
        ("{} and {}", "each needs one"),
        ([], "an empty list"),
        (["a photo"], "Got 'a photo' as prompt template"),
        ([3], "Got 3 as prompt template"),
        (3, "Got int"),
        (["{}" + "x" * 1_000], "1,002 characters"),
        ("@no/such/file", "Cannot read the template list"),
    ],
)
def test_bad_templates(templates: object, message: str) -> None:
    """Each mistake has its sentence."""
    with pytest.raises(ConfigError, match=message):
        resolve_templates(templates)  # type: ignore[arg-type]

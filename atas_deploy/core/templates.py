"""Prompt templates: the sentences that a word is put into before it is encoded."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atas_deploy.core.class_files import read_lines
from atas_deploy.core.class_spec import check_word, shorten
from atas_deploy.core.errors import ConfigError

# A handful for everyday use, after the prompts of CLIP (Radford et al., 2021).
DEFAULT_TEMPLATES = ("{}", "a photo of a {}.", "a photo of the {}.", "there is a {} in the scene.")

FOLDER = Path(__file__).parents[1] / "words" / "templates"


@dataclass(frozen=True, slots=True)
class Templates:
    """A set of templates.

    Attributes:
        name: of the set or the file, else "custom".
        prompts: T sentences, each with one `{}` for the word.
    """

    name: str
    prompts: tuple[str, ...]


def template_names() -> list[str]:
    """Names of the built-in sets."""
    return ["default", "none", *sorted(path.stem for path in FOLDER.glob("*.txt"))]


def resolve_templates(templates: str | Sequence[str]) -> Templates:
    """Find or check templates.

    Args:
        templates: a name ("default"; "none", the word alone; "simple", "imagenet", "clipself"),
            "@file" with one template a line, one template, or a sequence of them.

    Raises:
        ConfigError: an unknown name, an unreadable file, a template without `{}`.
    """
    if not isinstance(templates, str):
        return Templates("custom", _checked(templates))
    if templates.startswith("@"):
        path = Path(templates[1:])
        return Templates(path.name, _checked(read_lines(path, what="template")))
    if "{}" in templates:
        return Templates("custom", _checked([templates]))
    return _built_in(templates.casefold())


def fill(template: str, word: str) -> str:
    """Put a word into a template; `{article}` becomes "a" or "an"."""
    article = "an" if word[:1].lower() in tuple("aeiou") else "a"
    return template.replace("{article}", article).replace("{}", word)


def _built_in(name: str) -> Templates:
    known = template_names()
    if name not in known:
        near = difflib.get_close_matches(shorten(name), known, n=1)
        hint = f' (did you mean "{near[0]}"?)' if near else ""
        raise ConfigError(
            f'Unknown templates "{shorten(name)}": expected {", ".join(known)}, @file or a '
            f'sentence with "{{}}" for the word{hint}.'
        )
    if name == "default":
        return Templates(name, DEFAULT_TEMPLATES)
    if name == "none":
        return Templates(name, ("{}",))
    return Templates(name, _checked(read_lines(FOLDER / f"{name}.txt", what="template")))


def _checked(templates: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(templates, list | tuple) or not templates:
        got = "an empty list" if isinstance(templates, list | tuple) else type(templates).__name__
        raise ConfigError(f'Got {got} as prompt templates; give sentences with "{{}}" in each.')
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ConfigError(
                f"Got {shorten(repr(template))} as prompt template; each needs one "
                '"{}" for the word.'
            )
        check_word(template, "A prompt template")
    return tuple(dict.fromkeys(templates))

"""`atas-deploy classes`."""

import json
from typing import Any

import click

from atas_deploy.cli.progress import printable


@click.command()
@click.argument("classes", required=False, metavar="[CLASSES]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; CLASSES as a list to edit.")
def classes(classes: str | None, *, as_json: bool) -> None:
    """List the built-in class lists, or show the classes of CLASSES with their colours.

    \b
    CLASSES is what `segment --classes` takes: @voc21, @voc21:expanded, @names.toml, "dog|puppy".
    Try:  atas-deploy classes @cityscapes
          atas-deploy classes @voc21:expanded --json > mine.json
    """  # noqa: D301  (click needs the real control character)
    if classes is None:
        _show_lists(as_json=as_json)
    else:
        _show_classes(classes, as_json=as_json)


def _show_lists(*, as_json: bool) -> None:
    from dataclasses import asdict

    from atas_deploy.core.class_lists import list_info, list_names

    infos = [list_info(name) for name in list_names()]
    if as_json:
        _echo_json([asdict(info) for info in infos])
        return
    for info in infos:
        background = ", with background" if info.background else ""
        click.echo(
            f"@{info.name:14} {info.classes:5} classes, :expanded {info.words:5} words{background}"
        )
        click.echo(f"    {info.title}. {info.source}")


def _show_classes(classes: str, *, as_json: bool) -> None:
    from atas_deploy.core.class_lists import list_names
    from atas_deploy.core.classes import read_class_list
    from atas_deploy.core.palette import class_palette_for

    known = classes.partition(":")[0].casefold().replace("_", "-") in list_names()
    found = read_class_list(f"@{classes}" if known else classes)
    colors = class_palette_for(found.specs).tolist()[1:]
    if as_json:
        rows = [
            {"name": spec.name, "synonyms": list(spec.synonyms[1:]), "color": _hex(color)}
            for spec, color in zip(found.specs, colors, strict=True)
        ]
        _echo_json({"background": list(found.background), "classes": rows})
        return
    for number, (spec, color) in enumerate(zip(found.specs, colors, strict=True), 1):
        square = click.style("  ", bg=(color[0], color[1], color[2]))
        words = printable(" | ".join(spec.synonyms))
        click.echo(f"{number:5} {square} {_hex(color)}  {words}")
    if found.background:
        click.echo(f"background: {printable(', '.join(found.background))}")


def _hex(color: list[int]) -> str:
    return "#" + bytes(color).hex()


def _echo_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))

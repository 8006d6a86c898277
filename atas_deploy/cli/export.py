"""`atas-deploy export`."""

import json
from pathlib import Path
from typing import Any

import click

from atas_deploy.cli.progress import printable
from atas_deploy.core.readouts import READOUTS

_MAX_PHOTOS = 8


@click.command()
@click.option(
    "-m",
    "--model",
    default="atas-tiny",
    show_default=True,
    help="Embedded model, model or bundle folder, or open_clip name: ViT-B-16/openai, "
    "ViT-B-16/FILE with weights of your own, hf-hub:ORGANISATION/REPOSITORY.",
)
@click.option(
    "--readout",
    type=click.Choice(READOUTS),
    help="How dense features are read.  [default: the model's, or sclip]",
)
@click.option(
    "--patch-stride",
    "stride",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pixels from patch to patch; less than the patch size gives a finer grid, slower.  "
    "[default: the model's, or the patch size]",
)
@click.option(
    "--attention-window",
    type=click.IntRange(min=0),
    metavar="N",
    help="Let attention see windows of N x N patches only; 0 = no windows.  [default: the model's, "
    "or none]",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the bundle.  [default: MODEL-READOUT]",
)
@click.option(
    "--photos",
    multiple=True,
    help="Image, folder or glob to prove the graphs on as well (the first 8 images); repeat.",
)
@click.option(
    "--fp16-weights",
    is_flag=True,
    help="Round the weights to float16 first: half the file; arithmetic stays float32.",
)
@click.option("--license", "license_id", help="SPDX licence of the weights, if not recorded.")
@click.option("--force", is_flag=True, help="Replace a bundle that exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def export(*, quiet: bool, **options: Any) -> None:
    """Export a model to a bundle of ONNX graphs, compared with PyTorch before it is written."""
    bundle = run_export(**options)
    if not quiet:
        for line in describe(bundle):
            click.echo(line)


def run_export(
    *, model: str, out: Path | None, photos: tuple[str, ...], fp16_weights: bool, **settings: Any
) -> Any:
    """Load the model, export it and return the bundle."""
    from atas_deploy.core.extra import needs_extra
    from atas_deploy.models import weights_source

    with needs_extra("export", to="Export"):
        from atas_deploy.clip.manifest import encoder_settings
        from atas_deploy.clip.weights import load_model
        from atas_deploy.export.bundle import export_bundle
        from atas_deploy.export.storage import round_weights
    loaded = load_model(weights_source(model))
    if fp16_weights:
        round_weights(loaded.model)
    readout = encoder_settings(loaded, readout=settings["readout"])["readout"]
    return export_bundle(
        loaded,
        out or Path(f"{loaded.name}-{readout}"),
        photos=read_photos(photos),
        **settings,
    )


def describe(bundle: Any) -> list[str]:
    """What was written, its size, and how close it is to PyTorch: one line each."""
    from atas_deploy.core.bundle import PARITY

    manifest = bundle.manifest
    size = sum(record.size for record in manifest.files.values()) / 1e6
    lines = [
        f"{bundle.path}: {manifest.name}, read-out {manifest.readout}, {size:.1f} MB, "
        f"weights stored as {manifest.weight_storage}, licence {manifest.license}"
    ]
    proof = json.loads((bundle.path / PARITY).read_text(encoding="utf-8"))
    for stage in proof["stages"]:
        worst = ", ".join(
            f"{output} within {values['max_abs']:.1e} (cosine {values['cosine_min']:.6f})"
            for output, values in stage["worst"].items()
        )
        lines.append(f"{stage['stage']}: {worst}")
    return lines


def read_photos(inputs: tuple[str, ...]) -> list[Any]:
    """The first images among files, folders and globs, (H, W, 3) uint8 RGB; bad ones left out."""
    from atas_deploy.core.errors import InputError
    from atas_deploy.media.images import read_image
    from atas_deploy.media.sources import find_sources

    if not inputs:
        return []
    found = find_sources(inputs)
    bad: list[str] = []
    photos: list[Any] = []
    for source in found.sources:
        if isinstance(source.location, Path) and source.kind == "image":
            try:
                photos.append(read_image(source.location))
            except InputError as exc:
                bad.append(str(exc))
        if len(photos) == _MAX_PHOTOS:
            break
    problems = [problem.message for problem in found.problems] + bad
    if not photos:
        raise InputError(problems[0] if problems else "--photos names videos only: add an image.")
    for problem in problems:
        click.echo(f"Photo left out: {printable(problem)}", err=True)
    return photos

"""`atas-deploy export`."""

import json
from pathlib import Path
from typing import Any

import click

from atas_deploy.cli.export_formats import (
    Consumers,
    consumer_options,
    consumers_of,
    run_openclip,
)
from atas_deploy.cli.progress import printable
from atas_deploy.cli.trt_options import Order, carry_out, order_with_export, trt_options
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
    "--precision",
    type=click.Choice(("fp32", "fp16", "bf16")),
    help="Arithmetic of the image encoder; the text encoder stays in fp32.  [default: fp32, or "
    "fp16 with --trt]",
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
    help="Image, folder or glob to prove the graphs on as well (the first 8 images); repeat.  "
    "[default: scikit-learn's two photos, if installed]",
)
@click.option(
    "--fp16-weights",
    is_flag=True,
    help="Round the weights to float16 first: half the file; arithmetic stays that of --precision.",
)
@click.option("--license", "license_id", help="SPDX licence of the weights, if not recorded.")
@click.option("--trt", is_flag=True, help="Build a TensorRT engine as well, by the options below.")
@trt_options
@consumer_options
@click.option("--force", is_flag=True, help="Replace a bundle that exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def export(*, quiet: bool, trt: bool, **options: Any) -> None:
    """Export a model to a bundle of ONNX graphs, compared with PyTorch before it is written."""
    consumers = consumers_of(options, trt=trt)
    order = order_with_export(options, trt=trt)
    consumers.check_order(order)
    if consumers.openclip:
        _echo(run_openclip(read_photos=read_photos, **options), quiet=quiet)
        return
    bundle = run_export(order=order, consumers=consumers, **options)
    _echo(describe(bundle), quiet=quiet)
    if order:
        _echo(carry_out(order, bundle), quiet=quiet)
    _echo(consumers.serve(bundle), quiet=quiet)


def _echo(lines: list[str], *, quiet: bool) -> None:
    for line in lines if not quiet else ():
        click.echo(line)


def run_export(
    *,
    model: str,
    out: Path | None,
    photos: tuple[str, ...],
    fp16_weights: bool,
    order: Order | None,
    consumers: Consumers,
    **settings: Any,
) -> Any:
    """Load the model, export it and return the bundle; an engine to come decides on its proof."""
    from atas_deploy.core.extra import needs_extra
    from atas_deploy.models import weights_source

    with needs_extra("export", to="Export"):
        from atas_deploy.clip.manifest import encoder_settings
        from atas_deploy.clip.weights import load_model
        from atas_deploy.export.bundle import export_bundle
        from atas_deploy.export.cases import sample_photos
        from atas_deploy.export.prove import prove_apart
        from atas_deploy.export.storage import round_weights
    loaded = load_model(weights_source(model))
    if fp16_weights:
        round_weights(loaded.model)
    readout = encoder_settings(loaded, readout=settings["readout"])["readout"]
    settings["precision"] = settings["precision"] or ("fp16" if order else "fp32")
    settings |= {
        "photos": read_photos(photos or tuple(map(str, sample_photos()))),
        "prover": prove_apart,
        "reference_sizes": _proof_sizes(order, loaded, settings) if order else (),
    }
    return consumers.export(
        lambda folder, force: export_bundle(loaded, folder, **settings | {"force": force}),
        out or Path(f"{loaded.name}-{readout}"),
    )


def _proof_sizes(order: Order, model: Any, settings: dict[str, Any]) -> Any:
    """The sizes that an engine of a model will be proved at."""
    from atas_deploy.backends.trt.profiles import proof_shapes
    from atas_deploy.clip.manifest import encoder_settings, make_manifest
    from atas_deploy.export.towers import build_towers

    chosen = {name: settings[name] for name in ("readout", "stride", "attention_window")}
    towers = build_towers(model, **encoder_settings(model, **chosen))
    tower = towers.image.tower
    manifest = make_manifest(model, tower, towers.text, opset=0)
    return proof_shapes(order.shapes(manifest, trained_size=min(tower.trained_size)))


def describe(bundle: Any) -> list[str]:
    """What was written, its size, and how close it is to PyTorch: one line each."""
    from atas_deploy.core.bundle import PARITY

    manifest = bundle.manifest
    size = sum(record.size for record in manifest.files.values()) / 1e6
    lines = [
        f"{bundle.path}: {manifest.name}, read-out {manifest.readout}, {manifest.precision}, "
        f"{size:.1f} MB, weights stored as {manifest.weight_storage}, licence {manifest.license}"
    ]
    proof = json.loads((bundle.path / PARITY).read_text(encoding="utf-8"))
    for stage in proof["stages"]:
        worst = (_worst(output, figures) for output, figures in stage["worst"].items())
        lines.append(f"{stage['stage']}: {', '.join(worst)}")
    return lines


def _worst(output: str, figures: dict[str, Any]) -> str:
    """The worst figures of an output in words."""
    text = f"{output} within {figures['max_abs']:.1e} (cosine {figures['cosine_min']:.6f}"
    if figures["agreement"] is not None:
        text += f", classes {figures['agreement']:.1%}"
    return f"{text})"


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

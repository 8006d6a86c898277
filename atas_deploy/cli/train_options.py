"""The options of `atas-deploy train`, named as the keys of a run file.

None has a default of its own: what is not given is left to the run file and to the dataclasses of
`atas_deploy.training`.
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click

from atas_deploy.cli.sections import section
from atas_deploy.core.readouts import READOUTS
from atas_deploy.training.options import (
    AS_TRAINED,
    LARGEST_SEED,
    OF_THE_START,
    OPTIONS,
    SETTINGS,
    Method,
)
from atas_deploy.training.presets import PRESETS

_PATH = click.Path(path_type=Path)
_FORM = click.Choice(["infonce", "cosine", "kl"])
_COUNT = click.IntRange(min=1)
_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)
_WEIGHT = click.FloatRange(min=0)


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers, as in "2,4,6"."""

    name = "list"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Parse a text."""
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of whole numbers, such as 2,4,6.", param, ctx)


def _defaults(name: str, *, on: str, off: str) -> str:
    """The default of an option in words, by method if they differ; "" if there is none to tell.

    Args:
        name: of the field.
        on: what stands for True.
        off: what stands for False.
    """
    found: dict[str, list[str]] = {}
    for method in OPTIONS:
        both = (*fields(SETTINGS[method]), *fields(OPTIONS[method]))
        default = {field.name: field.default for field in both}.get(name)
        if isinstance(default, bool):
            default = on if default else off
        if isinstance(default, tuple):
            default = ",".join(map(str, default)) or None
        if default is not None:
            found.setdefault(str(default), []).append(method)
    if len(found) < 2:
        return "".join(found)
    return ", ".join(f"{value} with {' and '.join(methods)}" for value, methods in found.items())


def _of(heading: str) -> Callable[..., Any]:
    """Gives options under a heading, with the defaults of the dataclasses in their help."""
    make = section(heading)

    def option(*names: str, **settings: Any) -> Callable[..., Any]:
        on, _, off = next(name for name in names if name.startswith("--")).partition("/")
        default = _defaults(on[2:].replace("-", "_"), on=on[2:], off=off[2:])
        if default and "[default:" not in settings["help"]:
            settings["help"] += f"  [default: {default}]"
        given: Callable[..., Any] = make(*names, default=None, **settings)
        return given

    return option


_data, _model, _steps, _distill = map(_of, ("Data", "Model", "Steps", "ATAS and CLIPSelf"))
_atas, _clipself, _contrastive = map(_of, ("ATAS", "CLIPSelf", "Contrastive"))
_check, _machine, _run = map(_of, ("Check on labels", "Machine", "Run"))

OPTIONS_OF_TRAIN: tuple[Callable[..., Any], ...] = (
    _data(
        "--images",
        metavar="PATH",
        multiple=True,
        help="Folder, glob, list of files (.txt) or tar file of images; shards as in "
        '"{0000..0099}.tar"; may be given several times.',
    ),
    _data(
        "--workers",
        metavar="N",
        type=click.IntRange(min=0),
        help="Processes that read images ahead; 0 = none but the one that trains.",
    ),
    _data(
        "--max-broken",
        metavar="X",
        type=click.FloatRange(0, 1),
        help="Share of images that may be broken; they are left out.",
    ),
    _model(
        "-m",
        "--model",
        metavar="NAME",
        help="What to start from: name, as ViT-B-16/openai, model or bundle folder, or an "
        "open_clip_config.json for random weights.",
    ),
    _model(
        "--method",
        type=click.Choice(get_args(Method)),
        help="atas and clipself need nothing but images, contrastive needs --captions, too.  "
        "[default: atas]",
    ),
    _model(
        "-o",
        "--out",
        metavar="FOLDER",
        type=_PATH,
        help="Folder of the run and of the model.  [default: runs/NAME, as --images is called]",
    ),
    _model(
        "--alpha",
        metavar="A",
        type=click.FloatRange(0, 1),
        help="Share of what was learned in the weights that are saved; the rest is the start.",
    ),
    _model(
        "--record-readout",
        type=click.Choice([OF_THE_START, AS_TRAINED, *READOUTS]),
        help="How the trained model is read unless --readout says otherwise: as the start, as in "
        "training, or by name.",
    ),
    _steps("--epochs", metavar="X", type=_ABOVE_ZERO, help="Passes over the images."),
    _steps("--max-steps", metavar="N", type=_COUNT, help="Optimizer steps, instead of --epochs."),
    _steps("--batch-size", metavar="N", type=_COUNT, help="Images at once, of each process."),
    _steps("--accumulate", metavar="N", type=_COUNT, help="Batches to one optimizer step."),
    _steps(
        "--lr",
        metavar="X",
        type=_ABOVE_ZERO,
        help="Peak learning rate.  [default: 1e-5; small image towers 1e-3, but with contrastive]",
    ),
    _steps(
        "--warmup-steps",
        metavar="N",
        type=click.IntRange(min=0),
        help="Linear warm-up.  [default: a tenth of the steps]",
    ),
    _steps("--weight-decay", metavar="X", type=_WEIGHT, help="Of AdamW, on matrices."),
    _steps(
        "--layer-decay",
        metavar="X",
        type=click.FloatRange(0, 1, min_open=True),
        help="Factor of the learning rate from one image block to the one below it.",
    ),
    _steps("--seed", metavar="N", type=click.IntRange(0, LARGEST_SEED), help="Of all randomness."),
    _distill(
        "--size",
        metavar="PIXELS",
        type=_COUNT,
        help="Side of what the student sees: of a mosaic (atas), of a picture (clipself).",
    ),
    _distill(
        "--readout",
        type=click.Choice(READOUTS),
        help="How patches are read from the last block in training.",
    ),
    _distill(
        "--last-blocks",
        metavar="N",
        type=_COUNT,
        help="Train the last N blocks only.  [default: all]",
    ),
    _distill(
        "--only-blocks/--all-parts",
        help="Freeze patch embedding, positions, final norm and projection, or train them, too.",
    ),
    _distill(
        "--watch-every",
        metavar="N",
        type=_COUNT,
        help="Batches from one look for signs of collapse to the next.",
    ),
    _distill(
        "--on-collapse",
        type=click.Choice(["warn", "stop"]),
        help="What to do when the student leaves its teacher behind.",
    ),
    _atas(
        "--preset",
        type=click.Choice(list(PRESETS)),
        help="Settings as published; options given beside it win.",
    ),
    _atas(
        "--grids",
        metavar="LIST",
        type=Numbers(),
        help="Cells on a side of a mosaic, as in 2,4,6; one is drawn for each batch.",
    ),
    _atas("--temperature", metavar="T", type=_ABOVE_ZERO, help="Of the losses that contrast."),
    _atas(
        "--pooling-temperature",
        metavar="T",
        type=_ABOVE_ZERO,
        help="Of the weights that pool the patches of a cell; inf = their mean.",
    ),
    _atas("--global-to-local", metavar="X", type=_WEIGHT, help="Weight of the loss of cells."),
    _atas(
        "--local-to-local",
        metavar="X",
        type=_WEIGHT,
        help="Weight of the loss of patch similarities.",
    ),
    _atas(
        "--global-to-global",
        metavar="X",
        type=_WEIGHT,
        help="Weight of the loss of class tokens.",
    ),
    _atas("--local-form", type=_FORM, help="Form of the loss of cells."),
    _atas("--global-form", type=_FORM, help="Form of the loss of class tokens."),
    _atas(
        "--relation-reduction",
        type=click.Choice(["row-norm", "mse", "frobenius"]),
        help="How differences of patch similarities become one number.",
    ),
    _atas(
        "--crop-scale",
        metavar="X",
        type=click.FloatRange(0, 1, min_open=True),
        help="Smallest part of an image's side that a view keeps; contrastive has it, too.",
    ),
    _atas("--views", metavar="N", type=_COUNT, help="Different views of an image, one an epoch."),
    _atas(
        "--teacher-cache",
        metavar="FOLDER",
        type=_PATH,
        help="Keep the teacher's embeddings there, for later epochs and runs.",
    ),
    _clipself(
        "--max-grid", metavar="N", type=_COUNT, help="Most rows and columns of a random grid."
    ),
    _clipself(
        "--max-regions", metavar="N", type=_COUNT, help="Most regions of an image, drawn at random."
    ),
    _clipself(
        "--proposals",
        metavar="FILE",
        type=_PATH,
        help="Boxes in COCO's JSON instead of grids.",
    ),
    _clipself(
        "--proposal-scale",
        metavar="X",
        type=_ABOVE_ZERO,
        help="How much larger than its box the teacher's crop is.",
    ),
    _clipself(
        "--multiscale",
        metavar="LIST",
        type=Numbers(),
        help="Sides to resize pictures to, as in 320,448; one is drawn for each batch.",
    ),
    _clipself(
        "--crop-fit",
        type=click.Choice(["longest", "squash", "shortest"]),
        help="How a region becomes the teacher's square.  [default: squash or longest, as the "
        "model was trained]",
    ),
    _clipself("--flip/--no-flip", help="Mirror half of the pictures, or none."),
    _contrastive(
        "--captions",
        metavar="FILE",
        type=_PATH,
        help="CSV file with the columns image and caption.",
    ),
    _contrastive(
        "--lock-image/--unlock-image",
        help="Train the text tower and both projections only, or everything.",
    ),
    _check("--check-images", metavar="FOLDER", type=_PATH, help="Pictures with labels."),
    _check("--check-labels", metavar="FOLDER", type=_PATH, help="Their label maps, PNG."),
    _check("--check-panoptic", metavar="FILE", type=_PATH, help="Or COCO's panoptic JSON."),
    _check(
        "--check-classes",
        metavar="WORDS",
        help="What the labels mean, as --classes of segment.  [default: as the JSON says]",
    ),
    _check(
        "--check-every",
        metavar="N",
        type=_COUNT,
        help="Steps between checks.  [default: before and after training only]",
    ),
    _check("--check-max-images", metavar="N", type=_COUNT, help="The first N pictures only."),
    _machine("--device", metavar="NAME", help="cpu, cuda or cuda:N."),
    _machine(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        help="bf16 runs matrix products in bfloat16.",
    ),
    _machine(
        "--grad-checkpointing/--no-grad-checkpointing",
        help="Compute activations twice rather than keep them.",
    ),
    _machine("--compile/--no-compile", help="Pass the student to torch.compile."),
    _run(
        "--config",
        metavar="FILE",
        type=_PATH,
        help="Options in TOML, as run.toml of an earlier run; those given beside it win.",
    ),
    _run("--print-config", is_flag=True, help="Print all options as TOML, and train nothing."),
    _run("--resume", is_flag=True, help="Go on with the run in --out."),
    _run("--log-every", metavar="N", type=_COUNT, help="Steps a log line."),
    _run("--save-every", metavar="N", type=_COUNT, help="Steps a checkpoint."),
    _run("--tensorboard/--no-tensorboard", help="Also write the log for TensorBoard."),
    _run("-q", "--quiet", is_flag=True, help="Print errors only."),
)
"""In the order of the help."""

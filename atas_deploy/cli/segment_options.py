"""The options of `atas-deploy segment`; each is named as its field or argument further down."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from atas_deploy.cli.sections import add_options, section
from atas_deploy.core.presets import PRESETS
from atas_deploy.core.readouts import READOUTS
from atas_deploy.runtime.options import ADAPTIVE_LEVEL, FORMATS
from atas_deploy.runtime.settle import REFINEMENTS
from atas_deploy.runtime.windows import MERGES


def parse_time(text: str) -> float:
    """Seconds of "12.5", "1:02" or "1:02:03.5".

    Raises:
        BadParameter: it is no time, or negative.
    """
    *whole, last = text.split(":")
    seconds = 0.0
    try:
        for part in whole:
            seconds = 60 * (seconds + int(part))
        seconds += float(last)
    except ValueError:
        seconds = -1
    if len(whole) > 2 or "-" in text or not 0 <= seconds < float("inf"):
        raise click.BadParameter(f"{text!r} is no time; write seconds, mm:ss or hh:mm:ss.")
    return seconds


def parse_level(text: str) -> float:
    """A share as "0.05".

    Raises:
        BadParameter: it is none.
    """
    try:
        level = float(text)
    except ValueError:
        level = -1
    if not 0 <= level < 1:
        raise click.BadParameter(
            f"{text!r} is no number in [0, 1); name the inputs before --adaptive, or give it one."
        )
    return level


def parse_formats(text: str) -> tuple[str, ...]:
    """The names in "coco,cvat", each once.

    Raises:
        BadParameter: one is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in FORMATS]:
        raise click.BadParameter(f"{unknown[0]!r} is unknown; expected {', '.join(FORMATS)}.")
    return tuple(dict.fromkeys(names))


_words, _model, _masks = section("Words"), section("Model"), section("Masks")
_video, _output, _run = section("Video"), section("Output"), section("Run")

OPTIONS: dict[str, Callable[..., Any]] = {
    "--classes": _words(
        "-c",
        "--classes",
        metavar="WORDS",
        required=True,
        help='What to find: "dog|puppy,grass" (| joins synonyms), @names.txt, one class a line, or '
        "a built-in list as @voc20.",
    ),
    "--background": _words(
        "--background",
        metavar="WORDS",
        help="What else may be there: auto (a list of generic words), none (every pixel gets a "
        'class), or words such as "road,wall".  [default: auto]',
    ),
    "--templates": _words(
        "--templates",
        metavar="SET",
        help="Prompts: default (a handful), none, simple, imagenet, clipself, a sentence with {}, "
        "or @prompts.txt.  [default: default]",
    ),
    "--logit-scale": _words(
        "--logit-scale",
        metavar="X",
        type=click.FloatRange(min=0, min_open=True),
        help="Factor on cosine similarities.  [default: the model's]",
    ),
    "--no-cache": _words(
        "--no-cache", is_flag=True, help="Encode words anew, and keep nothing on disk."
    ),
    "--model": _model(
        "--model",
        metavar="NAME",
        default="atas-tiny",
        show_default=True,
        help="Name, as ViT-B-16/openai, checkpoint or bundle folder.",
    ),
    "--readout": _model(
        "--readout",
        type=click.Choice(READOUTS),
        help="How dense features are read from the last block.  [default: the bundle's]",
    ),
    "--preset": _model(
        "--preset",
        type=click.Choice(list(PRESETS)),
        help="Settings as published, for the class list if it is a data set's; options given "
        "beside it win.",
    ),
    "--backend": _model(
        "--backend",
        metavar="NAME",
        default="ort",
        show_default=True,
        help="Inference engine: ort (ONNX Runtime) or trt (TensorRT).",
    ),
    "--device": _model(
        "--device", metavar="NAME", help="cpu, cuda or cuda:N.  [default: cpu, for trt cuda]"
    ),
    "--short-side": _model(
        "--short-side",
        metavar="PIXELS",
        type=click.IntRange(min=1),
        help="Shorter side of the encoder's input: larger is finer and slower.  "
        "[default: the model's]",
    ),
    "--batch-size": _model(
        "--batch-size",
        metavar="N",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Pictures or windows encoded at once.",
    ),
    "--threshold": _masks(
        "--threshold",
        metavar="P",
        type=click.FloatRange(0, 1),
        help="Pixels below this probability are background.",
    ),
    "--window": _masks(
        "--window",
        metavar="PIXELS",
        type=click.IntRange(min=1),
        help="Encode windows of this many pixels of the encoder's input and merge them: slower.",
    ),
    "--stride": _masks(
        "--stride",
        metavar="PIXELS",
        type=click.IntRange(min=1),
        help="From one window to the next.  [default: half a window]",
    ),
    "--merge": _masks(
        "--merge",
        type=click.Choice(MERGES),
        help="What is averaged where windows overlap; pixels as published.  [default: features]",
    ),
    "--denoise": _masks(
        "--denoise",
        metavar="P",
        type=click.FloatRange(0, 1),
        help="Drop classes that are this probable in no cell of a picture; all background if none "
        "is left. MaskCLIP has 0.5, at a scale of 100.",
    ),
    "--refine": _masks(
        "--refine",
        type=click.Choice(REFINEMENTS),
        help="Fit masks to the colours of the picture: slow.  [default: none]",
    ),
    "--every": _video(
        "--every",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="Segment each N-th frame; its masks hold until the next.",
    ),
    "--start": _video(
        "--start", type=parse_time, metavar="TIME", help="Begin there: seconds, mm:ss or hh:mm:ss."
    ),
    "--end": _video("--end", type=parse_time, metavar="TIME", help="Stop there."),
    "--max-frames": _video(
        "--max-frames",
        metavar="N",
        type=click.IntRange(min=1),
        help="Stop each video after N frames.",
    ),
    "--decoder": _video(
        "--decoder",
        type=click.Choice(["cpu", "nvdec"]),
        default="cpu",
        show_default=True,
        help="What decodes files: nvdec is an NVIDIA GPU, where it knows the codec.",
    ),
    "--smooth": _video(
        "--smooth",
        metavar="A",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="Weight of the past against flicker; cuts are noticed.",
    ),
    "--adaptive": _video(
        "--adaptive",
        metavar="[P]",
        is_flag=False,
        flag_value=str(ADAPTIVE_LEVEL),
        type=parse_level,
        help="Encode a frame once what is new since the last one encoded adds up to more than this "
        "share of a picture; until then its masks move along.  "
        f"[default P: {ADAPTIVE_LEVEL:g}]",
    ),
    "--save-masks": _video(
        "--save-masks",
        "masks",
        type=click.Choice(["png", "rle"]),
        help="Keep the masks of frames, lossless: a label map (--format needs it) or a line of RLE "
        "each.",
    ),
    "--encoder": _video(
        "--encoder",
        metavar="NAME",
        help="h264, hevc, av1, vp9 or an encoder of FFmpeg.  [default: h264]",
    ),
    "--crf": _video(
        "--crf",
        metavar="N",
        type=click.IntRange(0, 51),
        default=20,
        show_default=True,
        help="Quality of overlays: 0 is lossless, 51 worst.",
    ),
    "--encoder-preset": _video(
        "--encoder-preset",
        metavar="NAME",
        help="Speed of the encoder, by its own name, as in veryfast.",
    ),
    "--out": _output(
        "-o",
        "--out",
        metavar="FOLDER",
        type=click.Path(path_type=Path, file_okay=True),
        default=Path("atas-out"),
        show_default=True,
        help="Folder of the results.",
    ),
    "--no-overlay": _output("--no-overlay", is_flag=True, help="Label maps and lines only."),
    "--view": _output(
        "--view",
        type=click.Choice(["overlay", "side"]),
        default="overlay",
        show_default=True,
        help="The overlay, or picture and overlay side by side.",
    ),
    "--opacity": _output(
        "--opacity",
        metavar="A",
        type=click.FloatRange(0, 1),
        default=0.55,
        show_default=True,
        help="Of the colours in overlays.",
    ),
    "--save": _output(
        "--save",
        type=click.Choice(["npz"]),
        help="Also labels and probabilities of images as NumPy arrays.",
    ),
    "--format": _output(
        "--format",
        "formats",
        type=parse_formats,
        default="",
        metavar="LIST",
        help=f"Also, for all pictures together: {', '.join(FORMATS)}; joined by commas.",
    ),
    "--resume": _run(
        "--resume", is_flag=True, help="Go on with a run that was stopped; retry what failed."
    ),
    "--shard": _run(
        "--shard", metavar="I/N", help="Do the I-th of N parts; N processes may share a folder."
    ),
    "--ray": _run(
        "--ray",
        metavar="[N]",
        is_flag=False,
        flag_value=0,
        type=click.IntRange(min=0),
        help="Share the work among N processes on the machines of a Ray cluster.  "
        "[default N: one a machine, or a GPU]",
    ),
    "--force": _run("--force", is_flag=True, help="Replace results that exist."),
    "--json": _run(
        "--json", "as_json", is_flag=True, help="Print a summary as JSON, and nothing else."
    ),
    "--quiet": _run("-q", "--quiet", is_flag=True, help="Print errors only."),
}
"""Every option of `segment` by its long name, in the order of its help."""


def options(*names: str) -> Callable[..., Any]:
    """Give a command the options of `segment` with these long names, in this order."""
    return add_options(*(OPTIONS[name] for name in names))

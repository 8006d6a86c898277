"""`atas-deploy doctor`: what is installed, what conflicts, how to mend it."""

import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from atas_deploy import __version__
from atas_deploy.cli.doctor_engines import (
    CUPY,
    check_engines,
    count_threads,
    describe_gpus,
    load_tensorrt,
)

_PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "av",
    "pillow",
    "onnxruntime",
    "onnxruntime-gpu",
    *CUPY,
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx",
    "onnx",
    "torch",
    "torchvision",
    "open_clip_torch",
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Show versions and devices; name problems and their cures (exit code 1 if any)."""
    report = diagnose()
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show(report)
    ctx.exit(1 if report["problems"] else 0)


def diagnose() -> dict[str, Any]:
    """Versions, devices, engines, encoders, models, problems; JSON-ready."""
    packages = {name: found for name in _PACKAGES if (found := _version(name))}
    problems = _conflicts(packages)
    gpus = describe_gpus()
    return {
        "atas-deploy": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "packages": packages,
        "onnxruntime_providers": _providers(problems),
        "threads": count_threads(problems),
        "gpus": gpus,
        "tensorrt_flavours": load_tensorrt(packages, problems),
        "engines": check_engines(gpu=bool(gpus)),
        "h264_encoders": _encoders(problems),
        "models": _models(problems),
        "model_cache": _model_cache(problems),
        "problems": problems,
    }


def _show(report: dict[str, Any]) -> None:
    for key in ("atas-deploy", "python", "platform"):
        click.echo(f"{key:24}{report[key]}")
    for name, found in report["packages"].items():
        click.echo(f"{name:24}{found}")
    for key in ("onnxruntime_providers", "tensorrt_flavours", "gpus", "h264_encoders", "models"):
        click.echo(f"{key:24}{', '.join(report[key]) or 'none'}")
    for key in ("threads", "model_cache"):
        click.echo(f"{key:24}{report[key] or 'none'}")
    for name, state in report["engines"].items():
        click.echo(f"{name:28}{state}")
    for problem in report["problems"]:
        click.secho(f"problem: {problem}", fg="red")
    if not report["problems"]:
        click.secho("no problems found", fg="green")


def _conflicts(packages: Mapping[str, str]) -> list[str]:
    """Packages that bring the same module and overwrite each other."""
    rivals = {
        ("onnxruntime", "onnxruntime-gpu"): '"atas-deploy[cpu]" or "atas-deploy[gpu]"',
        ("opencv-python", "opencv-python-headless"): "opencv-python-headless",
        CUPY: "the one for your driver's CUDA, cupy-cuda13x or cupy-cuda12x",
    }
    return [
        f"{' and '.join(found)} overwrite each other: run `pip uninstall -y {' '.join(found)}`, "
        f"then pip install {cure}."
        for names, cure in rivals.items()
        if len(found := [name for name in names if name in packages]) > 1
    ]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _providers(problems: list[str]) -> list[str]:
    try:
        import onnxruntime

        return list(onnxruntime.get_available_providers())
    except (ImportError, AttributeError) as exc:
        problems.append(
            f'ONNX Runtime cannot be used ({exc}): pip install "atas-deploy[cpu]" or '
            '"atas-deploy[gpu]".'
        )
        return []


def _encoders(problems: list[str]) -> list[str]:
    try:
        import av

        from atas_deploy.media.video.encoders import H264_ENCODERS
    except ImportError as exc:
        problems.append(f"PyAV cannot be imported ({exc}): pip install --force-reinstall av.")
        return []
    found = [name for name in H264_ENCODERS if name in av.codecs_available]
    if not found:
        problems.append(
            "This build of PyAV has no H.264 encoder: pip install --force-reinstall av."
        )
    return found


def _models(problems: list[str]) -> list[str]:
    from atas_deploy.core.errors import AtasError
    from atas_deploy.models import embedded_models, open_model

    names = embedded_models()
    for name in names:
        try:
            open_model(name).verify()
        except AtasError as exc:
            problems.append(str(exc))
    return names


def _model_cache(problems: list[str]) -> str:
    """How many exported models there are, their size, and where."""
    from atas_deploy.core.errors import AtasError
    from atas_deploy.models import ModelCache

    try:
        cache = ModelCache()
        return f"{len(cache.names())} models, {cache.size() / 1e6:.1f} MB in {cache.folder}"
    except (AtasError, OSError) as exc:
        problems.append(f"The cache of exported models cannot be read ({exc}).")
        return "none"

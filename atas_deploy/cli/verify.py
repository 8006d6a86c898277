"""`atas-deploy verify`: is a bundle whole, and does an engine compute what the model does?"""

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from atas_deploy.core.bundle import Bundle

_CURE = "do not use it with this engine and device, and report both with the model's name"
_COLUMNS = {
    "max_abs": ("difference", "{:.1e}"),
    "cosine_mean": ("mean cosine", "{:.6f}"),
    "cosine_p1": ("1st percentile", "{:.6f}"),
    "cosine_min": ("smallest", "{:.6f}"),
    "agreement": ("equal class", "{:.1%}"),
    "agreement_clear": ("where clear", "{:.1%}"),
    "not_finite": ("not finite", "{}"),
}


@click.command()
@click.argument("bundle")
@click.option(
    "--backend",
    metavar="NAME",
    default="ort",
    show_default=True,
    help="Inference engine: ort (ONNX Runtime) or trt (TensorRT).",
)
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:N.  [default: cpu, for trt cuda]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(bundle: str, *, backend: str, device: str | None, as_json: bool) -> None:
    """Check the files of BUNDLE and compare what an engine computes with PyTorch's features.

    BUNDLE is a folder or the name of an embedded or cached model. The features lie in the bundle;
    this machine needs no torch. Exit code 1 if a file has changed or a limit is exceeded.
    """
    reports = []
    for found in open_bundles(bundle, backend=backend, device=device):
        reports.append(run_verify(found, backend=backend, device=device))
        if not as_json:
            click.echo("\n".join(describe(reports[-1])))
    if as_json:
        click.echo(json.dumps({"bundles": reports}, indent=2))


def open_bundles(name: str, *, backend: str, device: str | None) -> "list[Bundle]":
    """The bundles of a name, once the engine is known to be there."""
    from atas_deploy.backends.opening import check_backend
    from atas_deploy.models import find_bundles

    check_backend(backend, device=device)
    return find_bundles(name)


def run_verify(bundle: "Bundle", *, backend: str, device: str | None) -> dict[str, Any]:
    """Check the files of a bundle and prove an engine by its reference; JSON-ready.

    Raises:
        BundleError: a file or an engine has changed, or there is no reference.
        ParityError: a limit is exceeded.
    """
    from atas_deploy.backends.opening import open_backend
    from atas_deploy.core.comparison import LIMITS, report
    from atas_deploy.core.proof import prove_backend, read_reference

    bundle.verify()
    engines = _engines(bundle)
    reference, precision = read_reference(bundle), bundle.manifest.precision
    limits, opened = LIMITS[precision], open_backend(backend, bundle, device=device)
    fits = getattr(opened, "fits", lambda shape: True)
    found = prove_backend(opened, reference, limits=limits, fits=fits, cure=_CURE)
    return {
        "bundle": str(bundle.path),
        "model": bundle.manifest.name,
        "precision": precision,
        "files": len(bundle.manifest.files),
        "engines": engines,
        **report(f"{opened.name}, {opened.device}", found, limits),
    }


def _engines(bundle: "Bundle") -> list[dict[str, Any]]:
    """The TensorRT engines of the bundle, for which cards they are, and whether one proved them.

    Raises:
        BundleError: one is damaged.
    """
    from atas_deploy.backends.trt.engines import list_engines, read_plan

    engines = list_engines(bundle)
    for engine in engines:
        read_plan(bundle, engine)
    return [
        {
            "name": engine.name,
            "cards": engine.key.cards,
            "proven": engine.proven,
            "quarantined": engine.quarantined,
        }
        for engine in engines
    ]


def describe(report: dict[str, Any]) -> list[str]:
    """The report as text: the files, the engines, and a table of the worst figures."""
    head = f"{report['bundle']}: {report['model']}, {report['precision']}, "
    lines = [f"{head}{report['files']} files as they were written"]
    for engine in report["engines"]:
        state = "proven" if engine["proven"] else engine["quarantined"] or "not proven"
        lines.append(f"engine {engine['name']}, {engine['cards']}: {state}")
    rows = [("", *(title for title, _ in _COLUMNS.values()))]
    for output, figures in report["worst"].items():
        values = ((figures[name], form) for name, (_, form) in _COLUMNS.items())
        cells = ("-" if value is None else form.format(value) for value, form in values)
        rows.append((output, *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join((row[0].ljust(widths[0]), *cells)))
    return [*lines, f"{report['stage']}: all within the limits of {report['precision']}"]

"""`atas-deploy models`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from atas_deploy import __version__
from atas_deploy.cli.progress import say

if TYPE_CHECKING:
    from atas_deploy.core.bundle import Bundle


@click.command()
@click.argument("model", required=False)
@click.option("--verify", is_flag=True, help="Check the SHA-256 of every file.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.option("--delete", is_flag=True, help="Remove MODEL from the cache of exported models.")
@click.pass_context
def models(
    ctx: click.Context, model: str | None, *, verify: bool, as_json: bool, delete: bool
) -> None:
    """List the embedded and the cached models, or show MODEL (a name or a bundle folder)."""
    if delete:
        _delete(model)
        return
    damaged = False
    for name, bundle in _find(model):
        if isinstance(bundle, str):
            say(f"{name}: {bundle}")
            damaged = True
            continue
        if verify:
            bundle.verify()
        if as_json:
            click.echo(json.dumps(asdict(bundle.manifest), indent=2, ensure_ascii=False))
        else:
            _show(name, bundle, verified=verify)
    ctx.exit(1 if damaged else 0)


def _find(model: str | None) -> list[tuple[str, "Bundle | str"]]:
    """Name and bundle of what is to be shown; in a list, what is wrong with a damaged one."""
    from atas_deploy.core.errors import BundleError
    from atas_deploy.models import ModelCache, embedded_models, find_bundles

    if model:
        found = find_bundles(model)
        return [(model if len(found) == 1 else bundle.path.name, bundle) for bundle in found]
    rows: list[tuple[str, Bundle | str]] = []
    for name in [*embedded_models(), *ModelCache().names()]:
        try:
            rows += [(name, bundle) for bundle in find_bundles(name)]
        except BundleError as exc:
            rows.append((name, str(exc)))
    return rows


def _show(name: str, bundle: "Bundle", *, verified: bool) -> None:
    from atas_deploy.models import ModelCache

    manifest = bundle.manifest
    size = sum(record.size for record in manifest.files.values()) / 1e6
    writer = manifest.tools.get("atas-deploy", "?")
    notes = ["verified"] * verified + [f"of release {writer}"] * (writer != __version__)
    stride = f", stride {manifest.stride}" if manifest.stride else ""
    click.echo(
        f"{name}: {manifest.architecture}, read-out {manifest.readout}, "
        f"patch {manifest.patch_size}{stride}, short side {manifest.short_side}, "
        f"{size:.1f} MB, licence {manifest.license}{''.join(f', {note}' for note in notes)}"
    )
    click.echo(f"  {bundle.path}")
    cache = ModelCache()
    if bundle.path.parent == cache.folder:
        for source in cache.sources(bundle.path.name):
            click.echo(f"  exported from {source}")


def _delete(model: str | None) -> None:
    """Remove one cached model, or all that were exported from one."""
    from atas_deploy.models import ModelCache, weights_source

    if not model:
        raise click.UsageError("--delete needs the name of a cached model; leave it out for a list")
    cache = ModelCache()
    for name in cache.exported(weights_source(model)) or [model]:
        cache.delete(name, tell=say)
        click.echo(f"Removed {name}.")

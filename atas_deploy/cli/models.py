"""`atas-deploy models`."""

import json
from dataclasses import asdict

import click


@click.command()
@click.argument("model", required=False)
@click.option("--verify", is_flag=True, help="Check the SHA-256 of every file.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def models(model: str | None, *, verify: bool, as_json: bool) -> None:
    """List the embedded models, or show MODEL (a name or a bundle folder)."""
    from atas_deploy.models import embedded_models, open_model

    for name in [model] if model else embedded_models():
        bundle = open_model(name)
        if verify:
            bundle.verify()
        manifest = bundle.manifest
        if as_json:
            click.echo(json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
            continue
        size = sum(record.size for record in manifest.files.values()) / 1e6
        checked = ", verified" if verify else ""
        click.echo(
            f"{name}: {manifest.architecture}, read-out {manifest.readout}, "
            f"patch {manifest.patch_size}, short side {manifest.short_side}, "
            f"{size:.1f} MB, licence {manifest.license}{checked}"
        )
        click.echo(f"  {bundle.path}")

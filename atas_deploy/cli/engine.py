"""`atas-deploy engine`."""

from typing import TYPE_CHECKING, Any

import click

from atas_deploy.cli.trt_options import carry_out, place_order, trt_options

if TYPE_CHECKING:
    from atas_deploy.core.bundle import Bundle


@click.command()
@click.argument("bundle")
@trt_options
@click.option("--force", is_flag=True, help="Build again what was built for the same key.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def engine(*, bundle: str, force: bool, quiet: bool, **options: Any) -> None:
    """Build a TensorRT engine for BUNDLE, a folder or the name of a cached model."""
    order = place_order(**options)
    lines = carry_out(order, _find(bundle), force=force)
    if not quiet:
        for line in lines:
            click.echo(line)


def _find(name: str) -> "Bundle":
    """Open the bundle; engines are not written into the package.

    Raises:
        ConfigError: it is part of the package, or the name is that of several.
    """
    from atas_deploy.core.errors import ConfigError
    from atas_deploy.models import find_bundles

    found = find_bundles(name)
    if found[0].is_embedded:
        model = found[0].path.resolve().name
        raise ConfigError(
            f"{name} is part of the package, which is left as it is; export it to a folder of its "
            f"own, with an engine: `atas-deploy export --model {model} --trt`."
        )
    if len(found) > 1:
        names = ", ".join(bundle.path.name for bundle in found)
        raise ConfigError(f"{name} was exported more than once; name one of {names}.")
    return found[0]

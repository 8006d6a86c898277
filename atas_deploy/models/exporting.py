"""Export a model into the cache, in a process of its own: this one never imports torch."""

from collections.abc import Callable

from atas_deploy.core.bundle import Bundle
from atas_deploy.core.child import ask
from atas_deploy.core.errors import ExportError
from atas_deploy.models.cache import ModelCache
from atas_deploy.models.sources import stamp


def export_once(
    source: str,
    *,
    readout: str | None,
    called: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> Bundle:
    """The bundle of a model in the cache, exported unless it is there.

    Args:
        source: what `atas_deploy.clip.weights.load_model` understands.
        readout: how dense features are read; None = as the model records.
        called: what the user calls it; None = the source.
        tell: called with one line when an export starts or is waited for; None = say nothing.

    Raises:
        AtasError: of the kind and with the sentence that the export gave.
        OutputError: the cache cannot be written.
    """
    cache = ModelCache()
    if bundle := cache.lookup(source, readout):
        return bundle
    with cache.locked(tell):
        if bundle := cache.lookup(source, readout):  # another process was faster
            return bundle
        if tell:
            with_readout = f" with read-out {readout}" if readout else ""
            tell(f"Exporting {called or source}{with_readout}, once, into {cache.folder}")
        files = stamp(source)
        name = _export(source, readout=readout, cache=cache, quiet=tell is None)
        cache.remember(source, readout, name, files)
    return Bundle.open(cache.folder / name)


def _export(source: str, *, readout: str | None, cache: ModelCache, quiet: bool) -> str:
    """Run `python -m atas_deploy.export`; return the name of the bundle."""

    def broken(how: str) -> ExportError:
        return ExportError(
            f"The export of {source} {how}; run `atas-deploy export --model {source}` to see why."
        )

    arguments = [source, str(cache.folder), *([readout] if readout else [])]
    answer = ask("atas_deploy.export", *arguments, broken=broken, quiet=quiet)
    return str(answer["bundle"])

"""Export a model into the cache on behalf of another process, `atas_deploy.models.exporting`.

    python -m atas_deploy.export SOURCE FOLDER [READOUT]

The answer, see `atas_deploy.core.child`, is the name of the bundle.
"""

import sys
from pathlib import Path

from atas_deploy.core.child import answer
from atas_deploy.core.errors import ExportError
from atas_deploy.core.extra import needs_extra


def main(source: str, folder: str, readout: str | None = None) -> None:
    """Export and answer."""

    def unexpected(reason: str) -> ExportError:
        return ExportError(
            f"The export of {source} failed ({reason}); see `atas-deploy export --model {source}`."
        )

    answer(lambda: {"bundle": _export(source, Path(folder), readout)}, unexpected=unexpected)


def _export(source: str, folder: Path, readout: str | None) -> str:
    with needs_extra("export", to="Export"):
        from atas_deploy.clip.weights import load_model
        from atas_deploy.export.cached import export_cached
    return export_cached(load_model(source), folder, readout=readout).path.name


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Prove the graphs of a folder in ONNX Runtime, here or in a process of its own.

    python -m atas_deploy.export.prove GRAPHS WORK STAGE LIMITS CURE

The process imports no torch: it reads the graphs as a user's machine will, and if it dies of them
this one does not.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.bundle import MANIFEST, REFERENCE, Bundle, Manifest
from atas_deploy.core.child import answer, ask
from atas_deploy.core.comparison import Comparison, Limits
from atas_deploy.core.errors import ExportError
from atas_deploy.core.proof import Reference, load_reference, prove_backend, write_reference

Prover = Callable[[Bundle, Reference, str, Limits, str], list[Comparison]]


def prove_here(
    bundle: Bundle, reference: Reference, stage: str, limits: Limits, cure: str
) -> list[Comparison]:
    """Compare graphs in ONNX Runtime on the CPU with PyTorch.

    Args:
        bundle: folder of the graphs, and the manifest that they will have.
        reference: inputs and PyTorch's features.
        stage: as errors call it.
        limits: how far image features may differ.
        cure: what to do about a failure.

    Raises:
        ParityError: a limit is exceeded.
        BackendError: a graph cannot be run.
    """
    return prove_backend(OrtBackend(bundle), reference, limits=limits, stage=stage, cure=cure)


def prove_apart(
    bundle: Bundle, reference: Reference, stage: str, limits: Limits, cure: str
) -> list[Comparison]:
    """As `prove_here`, in another process.

    Raises:
        ExportError: that process broke off.
    """

    def broken(how: str) -> ExportError:
        return ExportError(f"The process that runs the graphs ({stage}) {how}; {cure}.")

    with tempfile.TemporaryDirectory() as work:
        write_reference(Path(work, REFERENCE), reference)
        Path(work, MANIFEST).write_text(bundle.manifest.to_json(), encoding="utf-8")
        arguments = [str(bundle.path), work, stage, json.dumps(asdict(limits)), cure]
        told = ask("atas_deploy.export.prove", *arguments, broken=broken)
    return [Comparison(**{**row, "shape": tuple(row["shape"])}) for row in told["comparisons"]]


def main(graphs: str, work: str, stage: str, limits: str, cure: str) -> None:
    """Prove and answer."""

    def prove() -> dict[str, Any]:
        path = Path(work, MANIFEST)
        manifest = Manifest.from_json(path.read_text(encoding="utf-8"), where=path)
        reference = load_reference(Path(work, REFERENCE))
        bundle, allowed = Bundle(Path(graphs), manifest), Limits(**json.loads(limits))
        found = prove_here(bundle, reference, stage, allowed, cure)
        return {"comparisons": [asdict(comparison) for comparison in found]}

    def unexpected(reason: str) -> ExportError:
        return ExportError(f"The graphs could not be run ({stage}): {reason}; {cure}.")

    answer(prove, unexpected=unexpected)


if __name__ == "__main__":
    main(*sys.argv[1:])

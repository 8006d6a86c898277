"""Export models of every family and prove each graph; print JSON, exit with 1 if one fails.

    python benchmarks/prove_families.py [--models ViT-B-32 ...] > benchmarks/results/families.json

Weights are seeded, nothing is downloaded but the tokenizer of the SigLIP model is made up. For each
model and read-out `atas-deploy export` compares

- the PyTorch modules with open_clip: class token and text, at the trained size;
- ONNX Runtime with the PyTorch modules: dense features, class token and text, at four sizes
  (trained, wide, tall, one patch high), batch 1 and 3.
"""

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from seeded import seeded_model

from atas_deploy.clip.readouts import READOUTS
from atas_deploy.core.bundle import PARITY
from atas_deploy.core.errors import AtasError
from atas_deploy.export.bundle import export_bundle

ALL, DEFAULT = tuple(READOUTS), ("sclip",)
MODELS = {
    "ViT-B-32": DEFAULT,
    "ViT-B-16": ALL,
    "ViT-L-14-336-quickgelu": DEFAULT,
    "EVA02-B-16": DEFAULT,
    "ViT-B-16-SigLIP": DEFAULT,
}
PACKAGES = ("open_clip_torch", "timm", "torch", "onnx", "onnxscript", "onnxruntime")
OPEN_CLIP_LIMIT = 1e-5  # on the largest difference of a class token from open_clip's


def main() -> None:
    """Prove the models asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="open_clip's names")
    parser.add_argument("--readouts", nargs="+", choices=ALL, help="default: all five for ViT-B-16")
    args = parser.parse_args()
    results = {}
    for name in args.models:
        results[name] = prove(name, args.readouts or MODELS.get(name, DEFAULT))
        gc.collect()
    passed = all(proof.get("passed") for model in results.values() for proof in model.values())
    report = {
        "passed": passed,
        "limit_of_class_token_against_open_clip": OPEN_CLIP_LIMIT,
        "weights": "seeded, every weight stirred",
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {package: version(package) for package in PACKAGES},
        "models": results,
    }
    print(json.dumps(report, indent=2))
    sys.exit(0 if passed else 1)


def prove(name: str, readouts: tuple[str, ...]) -> dict[str, Any]:
    """Proof of a model by read-out."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = seeded_model(name, folder)
        proofs = {}
        for readout in readouts:
            print(f"{name} {readout}", file=sys.stderr, flush=True)
            start = time.monotonic()
            try:
                export_bundle(model, folder / "bundle", readout=readout, weights=False, force=True)
                proof = summary(json.loads((folder / "bundle" / PARITY).read_text()))
            except AtasError as exc:
                proof = {"passed": False, "error": str(exc)}
            proofs[readout] = proof | {"seconds": round(time.monotonic() - start, 1)}
    return proofs


def summary(proof: dict[str, Any]) -> dict[str, Any]:
    """The worst values of each stage, the limits they passed and the images they were taken of."""
    ours, graphs = proof["stages"]
    batches = {tuple(c["shape"][:3]) for c in graphs["comparisons"] if c["output"] == "dense"}
    return {
        "passed": ours["worst"]["image"]["max_abs"] <= OPEN_CLIP_LIMIT,
        "images": [" x ".join(map(str, shape)) for shape in sorted(batches)],
        "limits": graphs["limits"],
        **{stage["stage"]: stage["worst"] for stage in (ours, graphs)},
    }


if __name__ == "__main__":
    main()

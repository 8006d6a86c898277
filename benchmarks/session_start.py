"""What starting ONNX Runtime on a bundle's image encoder costs, and what caches would save.

    python benchmarks/session_start.py [--model atas-tiny] [--repeats 3]

Each contender starts in processes of its own, turn by turn, with one thread; prints JSON: medians
of processor time and peak resident memory, and bytes on disk.

- stored: the graph as the bundle has it.
- second_file: the same graph with its weights in a second file, which is mapped into memory.
- optimised: what ONNX Runtime's optimiser made of it, weights in a second file, loaded without
  optimising it again: a cache of optimised graphs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import onnxruntime

from atas_deploy.core.bundle import IMAGE_ENCODER
from atas_deploy.models import open_model

_START = """
import json, sys, time, onnxruntime
from pathlib import Path
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
if sys.argv[2] == "optimised":
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
start = time.process_time()
session = onnxruntime.InferenceSession(
    sys.argv[1], options, providers=["CPUExecutionProvider"]
)
seconds = time.process_time() - start
status = Path("/proc/self/status").read_text().splitlines()
peak = 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])
print(json.dumps({"core_s": seconds, "peak_bytes": peak}))
"""


def main() -> None:
    """Write the contenders, start them, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="atas-tiny", help="a bundle")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    stored = open_model(args.model).path / IMAGE_ENCODER
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            "stored": stored,
            "second_file": _with_second_file(stored, Path(folder) / "second.onnx"),
            "optimised": _optimised(stored, Path(folder) / "optimised.onnx"),
        }
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
        for _ in range(args.repeats):
            for name, path in contenders.items():
                runs[name].append(_start(path, name))
        rows = {name: _row(contenders[name], found) for name, found in runs.items()}
    head = {"model": args.model, "onnxruntime": version("onnxruntime")}
    print(json.dumps(head | rows, indent=2))


def _with_second_file(source: Path, target: Path) -> Path:
    data = f"{target.name}.data"
    onnx.save(onnx.load(source), target, save_as_external_data=True, location=data)
    return target


def _optimised(source: Path, target: Path) -> Path:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(target)
    entry = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{entry}_file_name", f"{target.name}.data")
    options.add_session_config_entry(f"{entry}_min_size_in_bytes", "1024")
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return target


def _start(path: Path, name: str) -> dict[str, Any]:
    command = [sys.executable, "-c", _START, str(path), name]
    run = subprocess.run(command, check=True, capture_output=True)
    return dict(json.loads(run.stdout))


def _row(path: Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    row = {key: median(run[key] for run in runs) for key in ("core_s", "peak_bytes")}
    files = (path, path.with_name(f"{path.name}.data"))
    return row | {"disk_bytes": sum(file.stat().st_size for file in files if file.is_file())}


if __name__ == "__main__":
    main()

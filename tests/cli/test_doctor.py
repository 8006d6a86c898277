"""`atas-deploy doctor` on engines: what can run here, what cannot and why; never a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from atas_deploy.backends.trt import cards
from atas_deploy.backends.trt.cards import Card
from atas_deploy.cli import doctor_engines
from atas_deploy.cli.doctor_engines import check_engines, count_threads, describe_gpus
from atas_deploy.cli.main import main


def test_engines_of_this_machine_are_told() -> None:
    """The CPU is ready; of CUDA the sentence is the one that `--device cuda` would give."""
    engines = check_engines(gpu=False)
    assert list(engines) == [
        "--backend ort --device cpu",
        "--backend ort --device cuda",
        "--backend trt --device cuda",
    ]
    assert engines["--backend ort --device cpu"] == "ready"
    assert 'pip install "atas-deploy[gpu]"' in engines["--backend ort --device cuda"]


def test_every_state_is_printed() -> None:
    """In the text as in the JSON, with threads, GPUs and TensorRT."""
    report = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).output)
    text = CliRunner().invoke(main, ["doctor"]).output
    for name, state in report["engines"].items():
        assert f"{name:28}{state}" in text
    assert f"{'threads':24}{report['threads']}\n" in text
    assert f"{'gpus':24}{', '.join(report['gpus']) or 'none'}\n" in text


def test_tensorrt_that_is_installed_is_loaded() -> None:
    """The flavour and version that its module tells."""
    tensorrt_rtx = pytest.importorskip("tensorrt_rtx")
    report = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).output)
    assert f"tensorrt-rtx {tensorrt_rtx.__version__}" in report["tensorrt_flavours"]


def test_tensorrt_that_does_not_load_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, but its module is gone: the cure is a new installation."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    problems: list[str] = []
    assert doctor_engines.load_tensorrt({"tensorrt-rtx": "1.7"}, problems) == []
    assert len(problems) == 1
    assert "pip install" in problems[0]


def test_gpus_are_listed_until_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, compute capability and driver."""
    found = [Card("NVIDIA L4", "8.9", "580.65.06"), Card("NVIDIA H100", "9.0", "580.65.06"), None]
    monkeypatch.setattr(cards, "find_card", found.__getitem__)
    assert describe_gpus() == [
        "NVIDIA L4, capability 8.9, driver 580.65.06",
        "NVIDIA H100, capability 9.0, driver 580.65.06",
    ]


def test_cuda_without_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages are there, the card or its driver is not."""
    monkeypatch.setattr("atas_deploy.backends.ort.OrtBackend.check_device", lambda device: None)
    assert "nvidia-smi" in check_engines(gpu=False)["--backend ort --device cuda"]


@pytest.mark.parametrize(
    ("packages", "named"),
    [
        ({"cupy-cuda12x", "cupy-cuda13x"}, "pip uninstall -y cupy-cuda12x cupy-cuda13x"),
        ({"opencv-python", "opencv-python-headless"}, "pip install opencv-python-headless"),
    ],
)
def test_rivals_are_problems(
    monkeypatch: pytest.MonkeyPatch, packages: set[str], named: str
) -> None:
    """Packages with one module name the command that leaves one of them."""
    version: Callable[[str], str | None] = lambda name: "1.0" if name in packages else None  # noqa: E731
    monkeypatch.setattr("atas_deploy.cli.doctor._version", version)
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    assert named in result.output


def test_a_wrong_number_of_threads_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named; the report goes on."""
    monkeypatch.setenv("ATAS_DEPLOY_THREADS", "many")
    problems: list[str] = []
    assert count_threads(problems) is None
    assert "ATAS_DEPLOY_THREADS" in problems[0]


def test_torch_is_not_imported() -> None:
    """The report takes about a second."""
    code = (
        "import sys; from atas_deploy.cli.doctor import diagnose; diagnose();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Naming a model is enough: it is exported once, into the cache, in a process of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from atas_deploy.cli.main import main
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import MANIFEST, REFERENCE, WEIGHTS, Bundle
from atas_deploy.core.errors import ConfigError, ExportError
from atas_deploy.export.cached import cache_key, export_cached
from atas_deploy.models import ModelCache, open_model
from atas_deploy.models.sources import stamp

_OPEN = (
    "import sys; from atas_deploy.cli.main import unwind_on_signals; "
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from atas_deploy.models import open_model\n"
    "with unwind_on_signals(): print(open_model({model!r}, tell=print).path.name)"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    """An empty cache of this test alone."""
    monkeypatch.setenv("ATAS_DEPLOY_CACHE", str(tmp_path / "cache"))
    return ModelCache()


@pytest.fixture
def filled(cache: ModelCache, bundle: Bundle, model: ClipModel) -> ModelCache:
    """A cache that holds the bundle of the small model, as if exported into it."""
    key = cache_key(model, {"readout": "sclip", "stride": None, "attention_window": None})
    shutil.copytree(bundle.path, cache.folder / f"tiny-sclip-{key}")
    return cache


def start(model: Path | None) -> subprocess.Popen[str]:
    """A process that opens a model and prints what it is told, and the bundle's name."""
    command = [sys.executable, "-u", "-c", _OPEN.format(model=str(model))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_model_is_exported_once(cache: ModelCache, model: ClipModel) -> None:
    """The first time is told; the second time opens the same bundle and says nothing."""
    told: list[str] = []
    first = open_model(str(model.folder), readout="naclip", tell=told.append)
    first.verify()
    assert told == [f"Exporting {model.folder} with read-out naclip, once, into {cache.folder}"]
    assert first.manifest.readout == "naclip"
    assert WEIGHTS not in first.manifest.files
    assert re.fullmatch(r"tiny-naclip-[0-9a-f]{12}", first.path.name)
    assert open_model(str(model.folder), readout="naclip", tell=told.append) == first
    assert len(told) == 1
    with pytest.raises(ConfigError, match="no weights"):
        open_model(first, readout="sclip")


def test_two_processes_export_once(cache: ModelCache, model: ClipModel) -> None:
    """The second says that it waits, and gets the bundle of the first."""
    assert model.folder is not None
    outputs = []
    for process in [start(model.folder), start(model.folder)]:
        out, err = process.communicate()
        assert process.returncode == 0, err
        outputs.append(out.splitlines())
    (name,) = cache.names()
    assert sorted(lines[0].partition(" ")[0] for lines in outputs) == ["Exporting", "Waiting"]
    assert [lines[-1] for lines in outputs] == [name, name]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to see processes")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_signals_end_both_processes(
    cache: ModelCache, model: ClipModel, number: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM leave nothing behind; a killed process takes the export with it."""
    process = start(model.folder)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: bool(list(cache.folder.glob("*.part"))))
    (child,) = children.read_text().split()
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code
    wait_for(lambda: not alive(int(child)))
    with cache.locked():
        assert [path.name for path in cache.folder.iterdir()] == [".lock"]


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something holds; fail after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_equal_weights_share_a_bundle(filled: ModelCache, model: ClipModel, tmp_path: Path) -> None:
    """Another path or name changes nothing; another read-out, stride or licence does."""
    assert model.folder is not None
    copy = load_model(shutil.copytree(model.folder, tmp_path / "copy"))
    (name,) = filled.names()
    assert export_cached(copy, filled.folder).path.name == name
    settings = {"readout": "sclip", "stride": None, "attention_window": None}
    keys = [cache_key(copy, settings | change) for change in ({}, {"stride": 8}, {"readout": "x"})]
    copy.record["license"] = "MIT"  # type: ignore[index]
    keys.append(cache_key(copy, settings))
    assert len(set(keys)) == 4
    assert name.endswith(keys[0])


def test_a_damaged_bundle_is_made_again(filled: ModelCache, model: ClipModel) -> None:
    """One changed byte in the cache is found before the bundle is used for another source."""
    (name,) = filled.names()
    graph = filled.folder / name / "text_encoder.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    export_cached(model, filled.folder).verify()
    assert filled.names() == [name]


def test_a_bundle_of_an_earlier_release_is_made_again(filled: ModelCache, model: ClipModel) -> None:
    """It has no reference to prove an engine by; the index does not find it either."""
    (name,) = filled.names()
    source = str(model.folder)
    filled.remember(source, None, name, stamp(source))
    assert filled.lookup(source, None) == Bundle.open(filled.folder / name)
    (filled.folder / name / REFERENCE).unlink()
    content = json.loads((filled.folder / name / MANIFEST).read_text())
    del content["files"][REFERENCE]
    (filled.folder / name / MANIFEST).write_text(json.dumps(content))
    assert filled.lookup(source, None) is None
    assert REFERENCE in export_cached(model, filled.folder).manifest.files
    assert filled.names() == [name]


def test_what_the_exporter_says_reaches_the_user_once(cache: ModelCache, tmp_path: Path) -> None:
    """One sentence and the exit code of a setting that cannot be used."""
    (tmp_path / "x.png").touch()
    arguments = ["segment", str(tmp_path / "x.png"), "--classes", "dog", "--quiet"]
    result = CliRunner().invoke(main, [*arguments, "--model", "ViT-B16/openai"])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert result.output.count("did you mean ViT-B-16") == 1
    assert cache.names() == []


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("raise ModuleNotFoundError(name='open_clip')", ImportError, r"atas-deploy\[export\]"),
        ("raise RuntimeError('boom')", ExportError, r"failed \(boom\); see `atas-deploy export"),
        ("import os; os._exit(3)", ExportError, r"a/b broke off"),
        ("import os; os.kill(os.getpid(), 9)", ExportError, "was killed by signal 9"),
    ],
)
def test_broken_exports_are_one_sentence(
    cache: ModelCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    error: type[Exception],
    message: str,
) -> None:
    """A missing package, a bug, and a process that vanishes."""
    (tmp_path / "open_clip.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match=message) as caught:
        open_model("a/b")
    assert "\n" not in str(caught.value)
    assert [path.name for path in cache.folder.iterdir()] == [".lock"]


def test_a_full_disk_leaves_nothing(cache: ModelCache, model: ClipModel) -> None:
    """The exporter's error is one sentence, and the half-written bundle is gone."""
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (100_000, 100_000)); "
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    process = subprocess.run(
        [sys.executable, "-c", limit + ignore + _OPEN.format(model=str(model.folder))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OutputError: Cannot write" in process.stderr.splitlines()[-1]
    assert [path.name for path in cache.folder.iterdir()] == [".lock"]
    assert os.environ["ATAS_DEPLOY_CACHE"] in str(cache.folder)

"""TensorRT as a backend, on a model of CUDA: loaded, proved at first use, refused with a cure."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from atas_deploy import Segmenter
from atas_deploy.backends.opening import check_backend, open_backend
from atas_deploy.backends.ort import OrtBackend
from atas_deploy.backends.trt import backend as module
from atas_deploy.backends.trt.backend import TrtBackend
from atas_deploy.backends.trt.cards import Card
from atas_deploy.backends.trt.engines import EngineRecord, list_engines, save_engine
from atas_deploy.backends.trt.flavour import load_flavour
from atas_deploy.backends.trt.key import key_here
from atas_deploy.backends.trt.profiles import Profile
from atas_deploy.core.bundle import MANIFEST, REFERENCE, Bundle, record_files
from atas_deploy.core.errors import (
    BackendError,
    BackendUnavailableError,
    BundleError,
    ConfigError,
    InputError,
    ParityError,
)
from atas_deploy.core.proof import Reference, write_reference
from atas_deploy.models import open_model
from atas_deploy.runtime.device import tools

CARDS = [Card("NVIDIA H100", "9.0", "580.65"), Card("NVIDIA L4", "8.9", "580.65")]
PROFILES = (
    Profile((1, 32, 32), (2, 32, 48), (4, 64, 64)),
    Profile((1, 32, 32), (2, 32, 32), (2, 32, 32)),
)


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    """(B, H, W, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@pytest.fixture(scope="module")
def ort() -> OrtBackend:
    """What must come out."""
    return OrtBackend(open_model("atas-tiny"))


@pytest.fixture(scope="module")
def template(ort: OrtBackend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with a reference for sizes 32 x 32 and 32 x 48, and nothing else."""
    folder = tmp_path_factory.mktemp("template") / "tiny"
    shutil.copytree(open_model("atas-tiny").path, folder)
    tokens = open_model("atas-tiny").tokenizer()(["a dog", "a red door"])
    images = [pictures(1, 32, 32), pictures(3, 32, 48), pictures(1, 16, 96)]
    features = [ort.encode_images(batch) for batch in images]
    texts = ort.encode_texts(tokens)
    reference = Reference(
        images=images,
        dense=[found.dense for found in features],
        image=[found.image for found in features],
        tokens=[tokens],
        texts=[texts],
        names=["dog", "door"],
        queries=texts,
    )
    write_reference(folder / REFERENCE, reference)
    manifest = replace(open_model("atas-tiny").manifest, files=record_files(folder))
    (folder / MANIFEST).write_text(manifest.to_json())
    return folder


@pytest.fixture
def bundle(template: Path, tmp_path: Path) -> Bundle:
    """A copy of it that a test may change."""
    shutil.copytree(template, tmp_path / "tiny")
    return Bundle.open(tmp_path / "tiny")


@pytest.fixture
def gpu(cuda: Any, tensorrt: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two cards, CuPy and TensorRT."""
    monkeypatch.setattr(
        module, "find_card", lambda index: CARDS[index] if index < len(CARDS) else None
    )
    return cuda


Build = Callable[..., EngineRecord]


@pytest.fixture
def build(gpu: Any, bundle: Bundle, plan: Callable[..., bytes]) -> Build:
    """Write an engine for the first card, or for capabilities, without building it."""

    def write(
        *,
        profiles: Sequence[Profile] = PROFILES,
        targets: Sequence[str] = (),
        options: Any = (),
        flavour: str = "tensorrt",
        **facts: Any,
    ) -> EngineRecord:
        key = key_here(bundle, load_flavour(flavour), None if targets else CARDS[0])
        more = {"targets": tuple(targets), "profiles": tuple(profiles), "options": dict(options)}
        shapes = [(p.least, p.best, p.most) for p in profiles]
        return save_engine(bundle, replace(key, **more), plan(*shapes, **facts))

    return write


def open_trt(bundle: Bundle, device: str = "cuda") -> TrtBackend:
    """The backend."""
    return TrtBackend(bundle, device=device)


def test_first_load_proves(build: Build, bundle: Bundle, ort: OrtBackend) -> None:
    """Features are those of the graph, and the record says so, on which card and how close."""
    build()
    images = pictures(5, 48, 32, seed=1)
    backend = open_trt(bundle)
    got, expected = backend.encode_images(images), ort.encode_images(images)
    np.testing.assert_allclose(got.dense, expected.dense, atol=1e-5)
    np.testing.assert_allclose(got.image, expected.image, atol=1e-5)
    (record,) = list_engines(bundle)
    assert record.proven
    assert record.proof is not None
    assert record.proof["card"] == {"name": "NVIDIA H100", "capability": "9.0", "driver": "580.65"}
    assert record.proof["worst"]["dense"]["cosine_min"] > 0.9999


def test_every_profile_is_proved_plain_and_from_graphs(
    build: Build, bundle: Bundle, gpu: Any
) -> None:
    """The first takes two cases, the second one of them, each with graphs of its own."""
    build()
    open_trt(bundle)
    (record,) = list_engines(bundle)
    assert record.proof is not None
    shapes = [tuple(c["shape"]) for c in record.proof["comparisons"] if c["output"] == "dense"]
    one, three = (1, 32, 32, 3), (3, 32, 48, 3)
    assert shapes == [one] * 3 + [three] * 3 + [one] * 3
    assert gpu.log.count("capture") == gpu.log.count("launch") == 3


def test_the_flavour_that_has_an_engine_is_used(build: Build, bundle: Bundle, gpu: Any) -> None:
    """Where both are installed, and none was named."""
    build(flavour="tensorrt-rtx", targets=["9.0"])
    open_trt(bundle)
    assert "context lazy" in gpu.log
    with pytest.raises(BackendUnavailableError, match=r"built with tensorrt-rtx .*here is tensor"):
        TrtBackend(bundle, flavour="tensorrt")


def test_a_proven_engine_is_not_proved_again(build: Build, bundle: Bundle, gpu: Any) -> None:
    """Its second load executes nothing."""
    build()
    open_trt(bundle)
    gpu.log.clear()
    open_trt(bundle)
    assert "execute" not in gpu.log


def test_an_engine_for_several_cards_is_proved_on_each(
    build: Build, bundle: Bundle, gpu: Any
) -> None:
    """The proof on another card counts for nothing here."""
    build(targets=["8.9", "9.0"])
    open_trt(bundle, "cuda:0")
    gpu.log.clear()
    open_trt(bundle, "cuda:1")
    assert "execute" in gpu.log
    (record,) = list_engines(bundle)
    assert record.proof is not None
    assert record.proof["card"]["name"] == "NVIDIA L4"


@pytest.mark.parametrize("fault", ["noise", "nan", "graph"])
def test_a_wrong_engine_is_quarantined(build: Build, bundle: Bundle, gpu: Any, fault: str) -> None:
    """Wrong features, values that are none, and ones that are wrong from a graph only."""
    build(fault=fault)
    with pytest.raises(ParityError, match=r"trt, cuda.*quarantine.*atas-deploy engine") as caught:
        open_trt(bundle)
    assert str(caught.value).count(". ") == 0
    assert ("launched as a CUDA graph" in str(caught.value)) == (fault == "graph")
    (record,) = list_engines(bundle)
    assert not record.proven
    assert record.quarantined
    assert not any(block.alive for block in gpu.blocks)
    with pytest.raises(BackendUnavailableError, match=r"in quarantine.*--force"):
        open_trt(bundle)


def test_a_profile_that_nothing_proves_is_refused(build: Build, bundle: Bundle) -> None:
    """The message names the profile, the sizes that there are and what to do; no quarantine."""
    build(profiles=[PROFILES[0], Profile((1, 80, 80), (1, 80, 80), (1, 80, 80))])
    with pytest.raises(BundleError, match=r"1x80x80 takes none.*32 x 32, 32 x 48.*--trt"):
        open_trt(bundle)
    (record,) = list_engines(bundle)
    assert (record.proven, record.quarantined) == (False, None)


def test_a_bundle_without_reference_is_refused(build: Build, bundle: Bundle) -> None:
    """Nothing unproved runs."""
    build()
    manifest = bundle.manifest
    files = {name: record for name, record in manifest.files.items() if name != REFERENCE}
    with pytest.raises(BundleError, match="export the model again"):
        open_trt(Bundle(bundle.path, replace(manifest, files=files)))


def test_a_full_gpu_is_no_reason_for_quarantine(build: Build, bundle: Bundle, gpu: Any) -> None:
    """Memory that runs out is told with the cure; the engine may be right."""
    build()
    gpu.room = 3_000
    with pytest.raises(BackendError, match=r"Out of memory.*--batch-size"):
        open_trt(bundle)
    gpu.room = None
    open_trt(bundle)


def test_an_engine_that_tensorrt_cannot_read(build: Build, bundle: Bundle) -> None:
    """TensorRT's own reason stands in the sentence."""
    build(readable=False)
    with pytest.raises(BackendError, match=r"cannot read the engine \(Magic tag does not match\)"):
        open_trt(bundle)


def test_an_engine_of_another_graph(build: Build, bundle: Bundle) -> None:
    """By its inputs and outputs, should the record lie."""
    build(names=["images", "logits", "image"])
    with pytest.raises(BackendError, match="expected images, dense and image"):
        open_trt(bundle)


def test_stripped_engines_get_their_weights(
    build: Build, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the bundle, before they run; others are left alone."""
    from atas_deploy.backends.trt import execution

    given: list[Path] = []
    monkeypatch.setattr(execution, "refit", lambda engine, weights, _: given.append(weights.path))
    build()
    open_trt(bundle)
    assert not given
    build(options={"strip_weights": True})
    for record in list_engines(bundle):
        if not record.key.options:
            (bundle.path / "engines" / f"{record.name}.json").unlink()
    open_trt(bundle)
    assert given == [bundle.path]


def test_sizes_outside_the_profiles(build: Build, bundle: Bundle) -> None:
    """Refused with the ranges; `fits` knows before."""
    build()
    backend = open_trt(bundle)
    assert backend.fits((100, 64, 48, 3))
    assert not backend.fits((1, 64, 80, 3))
    with pytest.raises(InputError, match=r"1 x 64 x 80.*nearest allowed size is 1 x 64 x 64"):
        backend.encode_images(pictures(1, 64, 80))
    with pytest.raises(InputError, match="multiples of 16"):
        backend.encode_images(pictures(1, 64, 60))


def test_threads_may_share_it(build: Build, bundle: Bundle, ort: OrtBackend) -> None:
    """Each gets the features of its own pictures."""
    build()
    backend = open_trt(bundle)
    batches = [pictures(1 + seed % 4, 32, 32 + 16 * (seed % 3), seed=seed) for seed in range(12)]
    found: dict[int, Any] = {}

    def work(first: int) -> None:
        for index in range(first, len(batches), 3):
            found[index] = backend.encode_images(batches[index])

    threads = [Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, images in enumerate(batches):
        expected = ort.encode_images(images)
        np.testing.assert_allclose(found[index].dense, expected.dense, atol=1e-5)


def test_closed(build: Build, bundle: Bundle, gpu: Any) -> None:
    """Memory is free, closing again is nothing, and encoding is one sentence."""
    build()
    backend = open_trt(bundle)
    backend.close()
    backend.close()
    assert not any(block.alive for block in gpu.blocks)
    with pytest.raises(BackendError, match="was closed"):
        backend.encode_images(pictures(1, 32, 32))


def test_forgotten(build: Build, bundle: Bundle, gpu: Any, ort: OrtBackend) -> None:
    """A backend that nobody closes finishes its work, and takes its memory with it."""
    build()
    backend, images = open_trt(bundle), pictures(3, 32, 48)
    features = backend.encode_on_device(images)
    del backend
    assert sum(block.alive for block in gpu.blocks) == 2
    expected = ort.encode_images(images)
    np.testing.assert_allclose(features.to_host().dense, expected.dense, atol=1e-5)


def test_a_folder_that_cannot_be_written_is_proved_each_time(
    build: Build, bundle: Bundle, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container: the engine is used, and nothing is recorded."""
    build()

    def refuse(*_: object) -> None:
        raise module.OutputError("read-only")

    monkeypatch.setattr(module, "set_proven", refuse)
    for _ in range(2):
        gpu.log.clear()
        assert open_trt(bundle).encode_images(pictures(1, 32, 32)).dense.shape == (1, 2, 2, 256)
        assert "launch" in gpu.log


def test_the_python_api(build: Build, bundle: Bundle, tmp_path: Path) -> None:
    """`backend="trt"` runs on the first GPU, with the same masks as on the CPU."""
    build()
    image = pictures(1, 40, 50)[0]
    settings = {"classes": "dog,grass", "short_side": 32, "cache": False}
    trt = Segmenter(bundle, backend="trt", **settings)
    assert (trt.backend.name, trt.backend.device) == ("trt", "cuda")
    expected = Segmenter(bundle, **settings)(image)
    np.testing.assert_array_equal(trt(image).labels, expected.labels)


def test_frames_stay_on_the_gpu(
    build: Build,
    bundle: Bundle,
    gpu: Any,
    kernel_model: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resized, encoded and labelled there; at the end one graph holds the engine's work, too."""
    monkeypatch.setattr(tools, "Kernels", kernel_model.TwinKernels)
    build()
    settings: Any = {"classes": "sky,tree", "background": "none", "short_side": 32}
    trt, host = Segmenter(bundle, backend="trt", **settings), Segmenter(bundle, **settings)
    frames = [np.repeat(np.repeat(pictures(4, 6, seed=i), 8, 0), 8, 1) for i in range(12)]
    gpu.log.clear()
    for frame, result in zip(frames, trt.stream(frames), strict=True):
        assert (result.labels == host(frame).labels).mean() > 0.98
    after = gpu.log[len(gpu.log) - gpu.log[::-1].index("capture") :]
    assert after.count("launch") >= 5
    assert "execute" not in after


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("cpu", ConfigError, "--device cuda"),
        ("cuda:x", ConfigError, "cuda or cuda:N"),
        ("cuda:2", BackendUnavailableError, "nvidia-smi"),
    ],
)
def test_devices_are_checked_without_a_bundle(
    gpu: Any, device: str, error: type[Exception], message: str
) -> None:
    """A name that is none of a GPU, and one of a GPU that is not there."""
    with pytest.raises(error, match=message):
        check_backend("trt", device=device)
    check_backend("trt", device="cuda:1")
    check_backend("trt")


def test_no_gpu(bundle: Bundle) -> None:
    """On a machine like those that test this: one sentence, and no fallback."""
    with pytest.raises(BackendUnavailableError, match="TensorRT"):
        open_backend("trt", bundle)


def test_no_tensorrt(gpu: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extras."""
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailableError, match=r"pip install \"?atas-deploy\[trt"):
        open_backend("trt", bundle)


def test_no_cupy(gpu: Any, build: Build, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package."""
    build()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendUnavailableError, match='pip install "cupy'):
        open_backend("trt", bundle)


def test_no_engine(gpu: Any, bundle: Bundle) -> None:
    """The message says how to build one."""
    with pytest.raises(BackendUnavailableError, match="atas-deploy engine"):
        open_backend("trt", bundle)


def test_an_engine_of_another_card(build: Build, bundle: Bundle) -> None:
    """The message names both."""
    build()
    with pytest.raises(BackendUnavailableError, match=r"built on NVIDIA H100.*here is NVIDIA L4"):
        open_backend("trt", bundle, device="cuda:1")

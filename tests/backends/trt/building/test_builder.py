"""TensorRT-RTX parses, builds and serialises, on a machine without a GPU; nothing is executed."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from atas_deploy.backends.trt.builder import (
    BuildOptions,
    build_engine,
    configure,
    make_profile,
    set_flags,
)
from atas_deploy.backends.trt.cards import Card
from atas_deploy.backends.trt.engines import load_engine, plan_path
from atas_deploy.backends.trt.flavour import TENSORRT, Flavour
from atas_deploy.backends.trt.key import EngineKey, key_here
from atas_deploy.backends.trt.machine import Machine
from atas_deploy.backends.trt.network import bindings, parse_graph, product_types
from atas_deploy.backends.trt.profiles import Profile, default_profiles
from atas_deploy.backends.trt.timing import timing_file
from atas_deploy.core.bundle import IMAGE_ENCODER, MANIFEST, Bundle, record_files
from atas_deploy.core.errors import BackendError, BundleError, ConfigError

Make = Callable[..., Bundle]
ONE = (Profile((1, 64, 64), (1, 64, 96), (2, 128, 128)),)


def parsed(bundle: Bundle, machine: Machine) -> tuple[Any, Any]:
    """A builder and the network of a bundle, with the parser that keeps its weights."""
    builder = machine.flavour.module.Builder(machine.flavour.log)
    return builder, parse_graph(builder, bundle, machine.flavour)


@pytest.mark.parametrize(
    ("precision", "types"),
    [("fp32", {"FLOAT"}), ("fp16", {"FLOAT", "HALF"}), ("bf16", {"FLOAT", "BF16"})],
)
def test_networks_have_the_bundles_bindings_and_precision(
    make_bundle: Make, machine: Machine, precision: str, types: set[str]
) -> None:
    """Pixels in, float32 features out, and matrices multiplied in the type of the manifest."""
    module = machine.flavour.module
    _, found = parsed(make_bundle(precision), machine)
    assert bindings(found.network) == {
        "images": ((-1, -1, -1, 3), module.uint8),
        "dense": ((-1, -1, -1, 24), module.float32),
        "image": ((-1, 24), module.float32),
    }
    assert product_types(found.network, module) == types


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_engine_is_built_and_read_back(
    make_bundle: Make, machine: Machine, precision: str
) -> None:
    """The default profiles build; the plan is found for a card of the target, not proven."""
    bundle = make_bundle(precision)
    profiles = default_profiles(short_side=64, trained_size=64, multiple=16)
    record, new = build_engine(bundle, machine, profiles=profiles)
    assert new
    card = Card("NVIDIA GeForce RTX 4090", "8.9", "580.65.06")
    plan, found = load_engine(bundle, key_here(bundle, machine.flavour, card))
    assert found == record
    assert len(plan) == record.size > 10_000
    assert not record.proven
    content = json.loads(plan_path(bundle, record).with_suffix(".json").read_text())
    assert content["key"] | {"graph": 0} == {
        "graph": 0,
        "flavour": "tensorrt-rtx",
        "version": machine.flavour.module.__version__,
        "precision": precision,
        "gpu": None,
        "capability": None,
        "driver": None,
        "targets": ["8.9"],
        "profiles": [str(profile) for profile in profiles],
        "options": {"level": None, "workspace": None, "strip_weights": False},
    }
    assert (content["proven"], content["proof"], content["quarantined"]) == (False, None, None)
    Bundle.open(bundle.path).verify()


def test_the_same_engine_is_built_once(make_bundle: Make, machine: Machine) -> None:
    """A second order finds the first one's engine; force, or another key, builds."""
    bundle = make_bundle()
    record, _ = build_engine(bundle, machine, profiles=ONE)
    assert build_engine(bundle, machine, profiles=ONE) == (record, False)
    again, new = build_engine(bundle, machine, profiles=ONE, force=True)
    assert new
    assert (again.name, again.built > record.built) == (record.name, True)
    plan_path(bundle, again).write_bytes(b"cut")
    assert build_engine(bundle, machine, profiles=ONE)[1]
    options = BuildOptions(level=1, workspace=8192)
    other, new = build_engine(bundle, machine, profiles=ONE, options=options)
    assert new
    assert other.name != record.name


def test_profiles_and_options_reach_tensorrt(make_bundle: Make, machine: Machine) -> None:
    """What the key says is what TensorRT's configuration holds."""
    bundle = make_bundle()
    builder, _ = parsed(bundle, machine)
    profiles = (*ONE, Profile((1, 16, 16), (4, 16, 16), (4, 16, 32)))
    options = BuildOptions(level=2, workspace=5)
    key = replace(
        key_here(bundle, machine.flavour, None),
        targets=("8.6", "12.0"),
        profiles=profiles,
        options=asdict(options),
    )
    config, module = configure(builder, machine.flavour, key), machine.flavour.module
    assert config.num_optimization_profiles == 2
    assert config.builder_optimization_level == 2
    assert config.get_memory_pool_limit(module.MemoryPoolType.WORKSPACE) == 5 * 2**20
    capabilities = [config.get_compute_capability(i) for i in range(2)]
    assert capabilities == [module.ComputeCapability.SM86, module.ComputeCapability.SM120]
    assert not config.get_flag(module.BuilderFlag.TF32)
    assert config.get_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)
    shapes = make_profile(builder, profiles[1]).get_shape("images")
    assert [tuple(shape) for shape in shapes] == [(1, 16, 16, 3), (4, 16, 16, 3), (4, 16, 32, 3)]


def test_what_cannot_be_built_is_one_sentence(make_bundle: Make, machine: Machine) -> None:
    """TensorRT-RTX has no float32 products on Turing; the sentence carries its reason."""
    turing = replace(machine, targets=("7.5",))
    bundle = make_bundle()
    with pytest.raises(BackendError, match=r"for cards of capability 7\.5 \(.*Turing.*\); try"):
        build_engine(bundle, turing, profiles=ONE)
    assert not list((bundle.path / "engines").glob("*.plan*"))
    with pytest.raises(BackendError, match="more --workspace"):
        build_engine(bundle, machine, profiles=ONE, options=BuildOptions(workspace=1))


@pytest.mark.parametrize("options", [{"level": 6}, {"level": -1}, {"workspace": 0}])
def test_options_that_tensorrt_does_not_take(options: dict[str, int]) -> None:
    """Levels are 0 to 5, and a workspace is some memory."""
    with pytest.raises(ConfigError, match="expected"):
        BuildOptions(**options)


def test_a_graph_with_a_changed_byte_is_refused(make_bundle: Make, machine: Machine) -> None:
    """What was proved is what an engine is built from, or none is."""
    bundle = make_bundle()
    data = bytearray((bundle.path / IMAGE_ENCODER).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle.path / IMAGE_ENCODER).write_bytes(data)
    with pytest.raises(BundleError, match=f"{IMAGE_ENCODER} has changed since it was proved"):
        build_engine(bundle, machine, profiles=ONE)


def rewritten(bundle: Bundle, graph: bytes, **changes: Any) -> Bundle:
    """The bundle with another graph or manifest, and records that agree."""
    (bundle.path / IMAGE_ENCODER).write_bytes(graph)
    files = record_files(bundle.path)
    manifest = replace(bundle.manifest, files=files, **changes)
    (bundle.path / MANIFEST).write_text(manifest.to_json())
    return Bundle.open(bundle.path)


def test_graphs_that_are_not_ours_are_refused(make_bundle: Make, machine: Machine) -> None:
    """Other outputs, another width, another precision than the manifest's, or no ONNX at all."""
    bundle = make_bundle()
    graph = (bundle.path / IMAGE_ENCODER).read_bytes()
    proto = onnx.load_from_string(graph)
    del proto.graph.output[1]
    cases: list[tuple[bytes, dict[str, Any], str]] = [
        (proto.SerializeToString(), {}, "no image encoder of atas-deploy"),
        (graph, {"embed_dim": 32}, "no image encoder of atas-deploy"),
        (graph, {"precision": "fp16"}, "says fp16, but its graph multiplies matrices in FLOAT"),
        (b"no graph", {}, "cannot read the graph"),
    ]
    for content, changes, message in cases:
        with pytest.raises(BundleError, match=message):
            build_engine(rewritten(bundle, content, **changes), machine, profiles=ONE)


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_tensorrt_uses_its_timing_cache(
    make_bundle: Make, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of `tensorrt`, whose interface TensorRT-RTX shares; no cache costs no engine."""
    monkeypatch.setenv("ATAS_DEPLOY_CACHE", str(tmp_path / "cache"))
    flavour = Flavour(TENSORRT, "10.3.0", machine.flavour.module)
    here = Machine(flavour, Card("NVIDIA L4", "8.9", "580.65.06"), ())
    bundle = make_bundle()
    record, _ = build_engine(bundle, here, profiles=ONE)
    assert (record.key.gpu, record.key.driver, record.key.targets) == ("NVIDIA L4", "580.65.06", ())
    file = timing_file(here)
    assert file is not None
    assert file.name == "tensorrt-10.3.0-NVIDIA-L4.timing"
    assert file.stat().st_size > 0
    (tmp_path / "blocked").write_text("no folder")
    monkeypatch.setenv("ATAS_DEPLOY_CACHE", str(tmp_path / "blocked"))
    assert build_engine(bundle, here, profiles=ONE, force=True)[1]
    assert not list(file.parent.glob("*.part"))


@pytest.mark.parametrize("stripped", [False, True])
def test_flags_that_a_flavour_lacks_are_left_out(stripped: bool) -> None:
    """TensorRT has no flag for memory of the caller; what there is, is set by its name."""
    names = ("TF32", "STRIP_PLAN", "REFIT_IDENTICAL")
    flags = SimpleNamespace(**{name: name for name in names})
    on, off = [], []
    config = SimpleNamespace(set_flag=on.append, clear_flag=off.append)
    set_flags(config, flags, strip_weights=stripped)
    assert off == ["TF32"]
    assert on == ["STRIP_PLAN", "REFIT_IDENTICAL"] * stripped


def test_keys_survive_json(make_bundle: Make, machine: Machine) -> None:
    """A key that was written and read again is equal and has the same digest."""
    key = key_here(make_bundle(), machine.flavour, Card("NVIDIA L4", "8.9", "580.65.06"))
    key = replace(key, profiles=(*ONE, Profile((1, 16, 16), (1, 16, 16), (1, 16, 16))))
    again = EngineKey.from_json(json.loads(json.dumps(key.to_json())))
    assert again == key
    assert again.digest == key.digest

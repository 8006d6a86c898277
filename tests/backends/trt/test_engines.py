"""Engines on the disk: found, refused, damaged, locked, written whole or not at all."""

import json
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atas_deploy.backends.trt.cards import Card
from atas_deploy.backends.trt.engines import (
    building,
    find_engine,
    list_engines,
    load_engine,
    plan_path,
    quarantine,
    save_engine,
    set_proven,
)
from atas_deploy.backends.trt.flavour import Flavour
from atas_deploy.backends.trt.key import EngineKey, key_here
from atas_deploy.backends.trt.profiles import Profile
from atas_deploy.core.bundle import (
    EMBEDDED,
    IMAGE_DATA,
    IMAGE_ENCODER,
    MANIFEST,
    MERGES,
    PARITY,
    TEXT_ENCODER,
    Bundle,
    Manifest,
    record_files,
)
from atas_deploy.core.errors import BackendUnavailableError, BundleError, OutputError

PLAN = bytes(range(256)) * 40
ADA = Card("NVIDIA GeForce RTX 4090", "8.9", "580.65.06")
SMALL = (Profile((1, 16, 16), (1, 16, 16), (1, 16, 16)),)
FLAVOUR = Flavour("tensorrt-rtx", "1.7.1", None)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose files are stand-ins: nothing is parsed here."""
    for name in (IMAGE_ENCODER, IMAGE_DATA, TEXT_ENCODER, MERGES, PARITY):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    manifest = Manifest(
        name="narrow",
        architecture="ViT",
        readout="sclip",
        patch_size=16,
        embed_dim=24,
        context_length=8,
        logit_scale=100.0,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        opset=20,
        license="CC0-1.0",
        precision="fp16",
        files=record_files(tmp_path),
    )
    (tmp_path / MANIFEST).write_text(manifest.to_json())
    return Bundle.open(tmp_path)


@pytest.fixture
def key(bundle: Bundle) -> EngineKey:
    """The key of an engine for Ada cards."""
    options = {"level": None, "workspace": None, "strip_weights": False}
    key = key_here(bundle, FLAVOUR, None)
    return replace(key, targets=("8.6", "8.9"), profiles=SMALL, options=options)


@pytest.fixture
def wanted(bundle: Bundle) -> EngineKey:
    """The key that a machine with an Ada card asks for."""
    return key_here(bundle, FLAVOUR, ADA)


def test_an_engine_is_found_by_card_and_graph(
    bundle: Bundle, key: EngineKey, wanted: EngineKey
) -> None:
    """The very bytes come back, with what is known of them."""
    record = save_engine(bundle, key, PLAN)
    assert load_engine(bundle, wanted) == (PLAN, record)
    assert list_engines(bundle) == [record] == [find_engine(bundle, key)]
    names = {path.name for path in (bundle.path / "engines").iterdir()} - {".lock"}
    assert names == {f"{record.name}.plan", f"{record.name}.json"}


def test_no_engine_names_the_command(bundle: Bundle, wanted: EngineKey) -> None:
    """A bundle without engines says how one is built."""
    with pytest.raises(BackendUnavailableError, match=r"has no engine; .*`atas-deploy engine"):
        load_engine(bundle, wanted)


def test_no_engine_goes_into_the_package(wanted: EngineKey) -> None:
    """What is told for the embedded model is not to build there, but to export it elsewhere."""
    with pytest.raises(
        BackendUnavailableError, match="`atas-deploy export --model atas-tiny --trt`"
    ) as caught:
        load_engine(Bundle.open(EMBEDDED / "atas-tiny"), wanted)
    assert "atas-deploy engine" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "1.8.0"}, "built with tensorrt-rtx 1.7.1, here is tensorrt-rtx 1.8.0"),
        ({"flavour": "tensorrt"}, "built with tensorrt-rtx 1.7.1, here is tensorrt 1.7.1"),
        ({"precision": "fp32"}, "its arithmetic is fp16, the bundle's fp32"),
        ({"capability": "12.0"}, r"for cards of capability 8\.6, 8\.9, here is .* 12\.0"),
        ({"profiles": (Profile(*[(1, 32, 32)] * 3),)}, "profiles are 1x16x16, wanted are 1x32x32"),
        ({"options": {"level": 5}}, "its options are level None.*, not level 5"),
    ],
    ids=["version", "flavour", "precision", "capability", "profiles", "options"],
)
def test_engines_for_something_else_are_refused(
    bundle: Bundle, key: EngineKey, wanted: EngineKey, changes: dict[str, Any], message: str
) -> None:
    """One sentence says what differs and how to build."""
    save_engine(bundle, key, PLAN)
    with pytest.raises(BackendUnavailableError, match=f"{message}.*; build one with `atas-deploy"):
        load_engine(bundle, replace(wanted, **changes))


@pytest.mark.parametrize(
    "card",
    [
        replace(ADA, name="NVIDIA L40S"),
        replace(ADA, driver="590.10"),
        replace(ADA, capability="8.6"),
    ],
)
def test_an_engine_of_a_card_is_for_that_card_and_driver(bundle: Bundle, card: Card) -> None:
    """Another card or another driver is named beside the one it was built on."""
    here = key_here(bundle, FLAVOUR, ADA)
    save_engine(bundle, replace(here, profiles=SMALL, targets=("8.9",)), PLAN)
    assert load_engine(bundle, here)[0] == PLAN
    told = r"built on NVIDIA GeForce RTX 4090 \(capability 8.9, driver 580.65.06\), here is NVIDIA"
    with pytest.raises(BackendUnavailableError, match=told):
        load_engine(bundle, key_here(bundle, FLAVOUR, card))


@pytest.mark.parametrize("name", [IMAGE_ENCODER, IMAGE_DATA])
def test_a_changed_byte_in_the_graph_is_another_graph(
    bundle: Bundle, key: EngineKey, name: str
) -> None:
    """Of the graph itself or of the file of its weights, though the manifest still names it."""
    save_engine(bundle, key, PLAN)
    data = bytearray((bundle.path / name).read_bytes())
    data[3] ^= 1
    (bundle.path / name).write_bytes(data)
    with pytest.raises(BackendUnavailableError, match="the graph has changed since"):
        load_engine(bundle, key_here(bundle, FLAVOUR, ADA))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda plan: plan[:-1], "10239 of 10240 bytes"),
        (lambda plan: b"", "0 of 10240 bytes"),
        (lambda plan: plan[:99] + b"!" + plan[100:], "another content than its record"),
    ],
    ids=["cut", "empty", "flipped"],
)
def test_damaged_plans_are_not_loaded(
    bundle: Bundle, key: EngineKey, wanted: EngineKey, damage: Any, message: str
) -> None:
    """Cut or changed: one sentence and the command that builds it again."""
    record = save_engine(bundle, key, PLAN)
    plan_path(bundle, record).write_bytes(damage(PLAN))
    with pytest.raises(BundleError, match=f"{message}.*not loaded; build it again.*or delete"):
        load_engine(bundle, wanted)
    assert find_engine(bundle, key) is None
    plan_path(bundle, record).unlink()
    with pytest.raises(BundleError, match="Cannot read the engine"):
        load_engine(bundle, wanted)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"key": {"graph": 1}}', "null"])
def test_damaged_records_are_one_sentence(
    bundle: Bundle, key: EngineKey, wanted: EngineKey, text: str
) -> None:
    """Whatever a record says, it is refused with a cure."""
    record = save_engine(bundle, key, PLAN)
    plan_path(bundle, record).with_suffix(".json").write_text(text)
    with pytest.raises(BundleError, match=r"record .* cannot be read .*; delete it and build"):
        load_engine(bundle, wanted)


def test_proven_engines_come_first_then_new_ones(
    bundle: Bundle, key: EngineKey, wanted: EngineKey
) -> None:
    """Of two that fit, the newer one, until the older one is proved."""
    old = save_engine(bundle, key, PLAN)
    new = save_engine(bundle, replace(key, options={"level": 5}), PLAN[::-1])
    assert load_engine(bundle, wanted) == (PLAN[::-1], new)
    proven = set_proven(bundle, old, {"worst": 0.9999})
    assert proven == replace(old, proven=True, proof={"worst": 0.9999})
    assert load_engine(bundle, wanted) == (PLAN, proven)


def test_a_quarantined_engine_is_used_no_more(
    bundle: Bundle, key: EngineKey, wanted: EngineKey
) -> None:
    """Its reason is told until the engine is built again."""
    record = save_engine(bundle, key, PLAN)
    quarantine(bundle, set_proven(bundle, record, {}), "dense has NaN")
    assert not list_engines(bundle)[0].proven
    assert find_engine(bundle, key) is None
    with pytest.raises(BackendUnavailableError, match=r"quarantine \(dense has NaN\); .*--force"):
        load_engine(bundle, wanted)
    save_engine(bundle, key, PLAN)
    assert load_engine(bundle, wanted)[0] == PLAN


def test_a_verdict_is_about_the_engine_that_was_run(
    bundle: Bundle, key: EngineKey, wanted: EngineKey
) -> None:
    """One that was built anew meanwhile keeps its own record."""
    old = save_engine(bundle, key, PLAN)
    new = save_engine(bundle, key, PLAN[::-1])
    assert set_proven(bundle, old, {"worst": 1}) == new
    assert not load_engine(bundle, wanted)[1].proven


@contextmanager
def small_files() -> Iterator[None]:
    """No file may be larger than 4 kB, as if the disk were full; nor may pytest's output be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_space_leaves_what_was_there(bundle: Bundle, key: EngineKey, wanted: EngineKey) -> None:
    """An engine that cannot be written is one sentence; the one before stays whole."""
    before = save_engine(bundle, key, PLAN[:4000])
    full = pytest.raises(OutputError, match=r"Cannot write .*\.plan: .*ulimit -f")
    with small_files(), full:
        save_engine(bundle, key, PLAN)
    assert load_engine(bundle, wanted) == (PLAN[:4000], before)
    assert not list((bundle.path / "engines").glob("*.part"))


def test_a_folder_that_cannot_be_written(bundle: Bundle, key: EngineKey) -> None:
    """A file where the folder should be is named, by the builder and by the writer."""
    (bundle.path / "engines").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot write"):
        save_engine(bundle, key, PLAN)
    with pytest.raises(OutputError, match="Cannot write"), building(bundle):
        pass


def test_a_second_builder_waits_and_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on when the first one has ended."""
    monkeypatch.setattr("atas_deploy.backends.trt.engines._PATIENCE", 0.01)
    begun, enough = threading.Event(), threading.Event()

    def build() -> None:
        with building(bundle):
            begun.set()
            enough.wait(60)

    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        enough.set()

    first = threading.Thread(target=build)
    first.start()
    assert begun.wait(60)
    with building(bundle, tell):
        assert told == [f"Waiting for another build of engines in {bundle.path}/engines to end."]
    first.join()


def test_later_releases_may_write_more(bundle: Bundle, key: EngineKey, wanted: EngineKey) -> None:
    """Unknown fields of a record and of a key are passed over."""
    record = save_engine(bundle, key, PLAN)
    path = plan_path(bundle, record).with_suffix(".json")
    content = json.loads(path.read_text()) | {"news": 1}
    content["key"]["news"] = 2
    path.write_text(json.dumps(content))
    assert load_engine(bundle, wanted) == (PLAN, record)

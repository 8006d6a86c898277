"""Which TensorRT is used, and what it can build for; only TensorRT-RTX is real here."""

import sys
from types import ModuleType

import pytest

from atas_deploy.backends.trt import machine
from atas_deploy.backends.trt.cards import Card
from atas_deploy.backends.trt.flavour import RTX, TENSORRT, load_flavour
from atas_deploy.backends.trt.machine import find_machine
from atas_deploy.core.errors import BackendUnavailableError, ConfigError

pytest.importorskip("tensorrt_rtx")


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> ModuleType:
    """A module `tensorrt` of a version, and nothing in it."""
    module = ModuleType("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def show(monkeypatch: pytest.MonkeyPatch, card: Card | None) -> None:
    """Put a card into this machine, or none."""
    monkeypatch.setattr(machine, "find_card", lambda: card)


def test_tensorrt_comes_before_tensorrt_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both installed the first is used, unless the other one is named."""
    assert load_flavour().name == RTX
    module = install(monkeypatch, "11.4.0")
    found = load_flavour()
    assert (found.name, found.version, found.module) == (TENSORRT, "11.4.0", module)
    assert str(found) == "tensorrt 11.4.0"
    assert load_flavour(RTX).name == RTX


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that installs it; an old release and a broken one say so too."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailableError, match=r'tensorrt is not .*"atas-deploy\[trt\]"'):
        load_flavour(TENSORRT)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BackendUnavailableError, match=r'TensorRT is .*"atas-deploy\[trt-rtx\]"'):
        load_flavour()
    install(monkeypatch, "8.6.1")
    with pytest.raises(BackendUnavailableError, match=r"8\.6\.1 is installed, expected release 10"):
        load_flavour()
    with pytest.raises(ConfigError, match="expected tensorrt or tensorrt-rtx"):
        load_flavour("openvino")


def test_targets_are_what_the_flavour_lists() -> None:
    """Turing is listed but not built for by default: it has no float32 products there."""
    flavour = load_flavour(RTX)
    assert {"7.5", "8.6", "8.9", "12.0"} <= set(flavour.targets)
    assert set(flavour.default_targets) == set(flavour.targets) - {"7.5"}
    assert flavour.targets["12.0"] == flavour.module.ComputeCapability.SM120


def test_tensorrt_rtx_builds_for_the_card_or_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets that are named come first, then the card here, then the default ones."""
    show(monkeypatch, None)
    assert find_machine(RTX).targets == load_flavour(RTX).default_targets
    card = Card("NVIDIA GeForce RTX 4090", "8.9", "580.65.06")
    show(monkeypatch, card)
    here = find_machine(RTX)
    assert (here.card, here.targets) == (card, ("8.9",))
    named = find_machine(RTX, targets=["12.0", "8.6"])
    assert (named.card, named.targets) == (None, ("8.6", "12.0"))


def test_cards_that_tensorrt_rtx_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message lists what it builds for."""
    show(monkeypatch, Card("NVIDIA H100", "9.0", "580.65.06"))
    with pytest.raises(BackendUnavailableError, match=r"8\.9, 12\.0.* and NVIDIA H100 has 9\.0"):
        find_machine(RTX)
    with pytest.raises(ConfigError, match=r'cannot build for "9\.0"; expected one of 7\.5'):
        find_machine(RTX, targets=["9.0"])


def test_weights_are_left_out_where_there_is_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX compiles such engines for a card, and fails without one."""
    show(monkeypatch, None)
    with pytest.raises(BackendUnavailableError, match="build without --strip-weights"):
        find_machine(RTX, strip_weights=True)


def test_tensorrt_builds_for_the_card_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs one, and knows no other."""
    install(monkeypatch, "10.3.0")
    show(monkeypatch, None)
    with pytest.raises(BackendUnavailableError, match="use --flavour tensorrt-rtx"):
        find_machine()
    card = Card("Orin", "8.7", "540.4.0")
    show(monkeypatch, card)
    here = find_machine()
    assert (here.flavour.name, here.card, here.targets) == (TENSORRT, card, ())
    with pytest.raises(ConfigError, match="leave --target out"):
        find_machine(targets=["8.7"])


def test_the_logger_keeps_errors_and_is_one() -> None:
    """TensorRT keeps the first logger of a process; warnings are not for the user."""
    flavour = load_flavour(RTX)
    log, levels = flavour.log, flavour.module.ILogger
    assert load_flavour(RTX).log is log
    log.errors.clear()
    log.log(levels.WARNING, "slow")
    log.log(levels.ERROR, "wrong")
    assert log.errors == ["wrong"]

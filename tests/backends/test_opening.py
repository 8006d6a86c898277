"""The choice of an engine, by name."""

import pytest

from atas_deploy.backends.opening import BACKENDS, DEFAULT_DEVICES, check_backend, open_backend
from atas_deploy.core.errors import ConfigError
from atas_deploy.models import open_model


def test_every_backend_has_its_own_name_and_a_device() -> None:
    """By which it is chosen, and on which it runs if none is given."""
    assert {name: kind.name for name, kind in BACKENDS.items()} == {"ort": "ort", "trt": "trt"}
    assert set(DEFAULT_DEVICES) == set(BACKENDS)


def test_onnx_runtime_runs_on_the_cpu_if_nothing_is_said() -> None:
    """With or without a device."""
    bundle = open_model("atas-tiny")
    assert open_backend("ort", bundle).device == open_backend("ort", bundle, device="cpu").device
    assert open_backend("ort", bundle).device == "cpu"


@pytest.mark.parametrize("name", ["abacus", "", "ORT"])
def test_unknown_backends_are_refused(name: str) -> None:
    """The message names those that there are."""
    with pytest.raises(ConfigError, match="expected ort, trt"):
        check_backend(name)

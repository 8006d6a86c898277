"""Graphs are run in another process, which may die without taking this one along."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.core.bundle import IMAGE_ENCODER, TEXT_ENCODER, Bundle
from atas_deploy.core.comparison import LIMITS
from atas_deploy.core.errors import BackendError, ExportError, ParityError
from atas_deploy.core.proof import read_reference
from atas_deploy.export.prove import prove_apart, prove_here

ASKED = ("files as written", LIMITS["fp32"], "try again")


def test_another_process_measures_the_same(bundle: Bundle) -> None:
    """Every figure, bit for bit."""
    reference = read_reference(bundle)
    found = prove_apart(bundle, reference, *ASKED)
    assert found == prove_here(bundle, reference, *ASKED)
    assert len(found) == 2 * len(reference.images) + len(reference.tokens)


def test_its_failure_is_told(bundle: Bundle) -> None:
    """Features that are off, in the words of the other process."""
    reference = read_reference(bundle)
    off = replace(reference, dense=[-batch for batch in reference.dense])
    with pytest.raises(ParityError, match=r"\(files as written\): output dense.*; try again\."):
        prove_apart(bundle, off, *ASKED)


def test_graphs_that_cannot_be_run_are_told(bundle: Bundle, tmp_path: Path) -> None:
    """A damaged file is one sentence."""
    for name in (IMAGE_ENCODER, TEXT_ENCODER):
        (tmp_path / name).write_bytes((bundle.path / name).read_bytes()[:1000])
    with pytest.raises(BackendError, match="could not load") as caught:
        prove_apart(Bundle(tmp_path, bundle.manifest), read_reference(bundle), *ASKED)
    assert "\n" not in str(caught.value)


def test_a_native_crash_is_one_sentence(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies of a signal, as ONNX Runtime's might."""
    (tmp_path / "onnxruntime.py").write_text("import os; os.kill(os.getpid(), 11)")
    reference = read_reference(bundle)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExportError, match=r"\(files as written\) was killed by signal 11; try"):
        prove_apart(bundle, reference, *ASKED)


def test_the_stored_reference_is_that_of_the_model(bundle: Bundle) -> None:
    """Features of unit length, and queries that float16 holds."""
    reference = read_reference(bundle)
    for features in (*reference.dense, *reference.image, *reference.texts):
        np.testing.assert_allclose(np.linalg.norm(features, axis=-1), 1, atol=1e-5)
    assert len(reference.names) == len(reference.queries) == 133
    np.testing.assert_array_equal(reference.queries, reference.queries.astype(np.float16))

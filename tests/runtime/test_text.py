"""`TextFeatures` with the embedded model."""

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import BackendError, ConfigError
from atas_deploy.core.templates import DEFAULT_TEMPLATES, resolve_templates
from atas_deploy.core.tokenizer import ClipTokenizer
from atas_deploy.models import open_model
from atas_deploy.runtime import text
from atas_deploy.runtime.text import TextFeatures

WORDS = ["dog", "a very long description of a dog that sleeps on a red sofa", "!", "Dog", "sky"]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The embedded model."""
    return open_model("atas-tiny")


@pytest.fixture(scope="module")
def tokenizer(bundle: Bundle) -> ClipTokenizer:
    """Its tokenizer."""
    return bundle.tokenizer()


class Counting(OrtBackend):
    """The engine, counting what it is asked to encode."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.shapes: list[tuple[int, int]] = []

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode and count."""
        self.shapes.append((tokens.shape[0], tokens.shape[1]))
        return super().encode_texts(tokens)


@pytest.fixture
def backend(bundle: Bundle) -> Counting:
    """A fresh counter."""
    return Counting(bundle)


def by_hand(
    backend: OrtBackend, tokenizer: ClipTokenizer, queries: Sequence[str], prompts: Sequence[str]
) -> npt.NDArray[np.float64]:
    """The definition: each prompt alone, the full context, the normalised mean in float64."""
    rows = []
    for query in queries:
        tokens = tokenizer([prompt.replace("{}", query) for prompt in prompts], trim=False)
        mean = np.mean([backend.encode_texts(row[None])[0] for row in tokens], axis=0, dtype=float)
        rows.append(mean / np.linalg.norm(mean))
    return np.array(rows)


def test_features_follow_the_definition(backend: Counting, tokenizer: ClipTokenizer) -> None:
    """Trimmed, sorted batches give what one prompt at a time gives."""
    features = TextFeatures(backend, tokenizer, templates=DEFAULT_TEMPLATES)(WORDS)
    assert features.dtype == np.float32
    np.testing.assert_allclose(
        features, by_hand(backend, tokenizer, WORDS, DEFAULT_TEMPLATES), atol=1e-6
    )


def test_batching_does_not_matter(
    backend: Counting, tokenizer: ClipTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small blocks and batches, other neighbours and another order give the same features."""
    words = [f"{'very ' * (i % 7)}old thing number {i}" for i in range(60)]
    whole = TextFeatures(backend, tokenizer, templates="default")(words)
    monkeypatch.setattr(text, "_BATCH", 7)
    monkeypatch.setattr(text, "_BLOCK", 30)
    parts = TextFeatures(backend, tokenizer, templates="default")(words[::-1])[::-1]
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_batches_are_as_wide_as_their_longest(
    backend: Counting, tokenizer: ClipTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short words are not padded to the length of long ones."""
    monkeypatch.setattr(text, "_BATCH", 2)
    long = " ".join(["word"] * 100)
    TextFeatures(backend, tokenizer, templates="none")([long, "dog", "cat", long + " more"])
    assert backend.shapes == [(2, 3), (2, tokenizer.context_length)]


def test_words_are_encoded_once(backend: Counting, tokenizer: ClipTokenizer) -> None:
    """Repeats and known words cost nothing; the order is that of the question."""
    features = TextFeatures(backend, tokenizer, templates="none")
    first = features(["dog", "cat", "dog"])
    np.testing.assert_array_equal(first[0], first[2])
    second = features(["cat", "sky", "dog"])
    np.testing.assert_array_equal(second[[0, 2]], first[[1, 0]])
    assert [count for count, _ in backend.shapes] == [2, 1]


def test_memory_is_bounded(
    backend: Counting, tokenizer: ClipTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words used longest ago are forgotten, but a question is answered whole."""
    width = 4 * backend.encode_texts(tokenizer(["dog"])).shape[1]
    monkeypatch.setattr(text, "_MAX_KNOWN", 3 * width)
    features = TextFeatures(backend, tokenizer, templates="none")
    assert features([f"thing {i}" for i in range(10)]).shape[0] == 10
    features(["thing 7"])
    features(["new"])
    backend.shapes.clear()
    features(["thing 9", "thing 7", "new"])
    assert backend.shapes == []
    features(["thing 8"])
    assert len(backend.shapes) == 1


def test_progress_only_when_it_takes_long(backend: Counting, tokenizer: ClipTokenizer) -> None:
    """From 1,001 prompts on, counts go from 0 to all; fewer are not worth a bar."""
    calls: list[tuple[int, int]] = []
    features = TextFeatures(
        backend, tokenizer, templates="none", progress=lambda *counts: calls.append(counts)
    )
    features([f"a {i}" for i in range(1_000)])
    assert calls == []
    features([f"b {i}" for i in range(1_001)])
    assert calls[0] == (0, 1_001)
    assert calls[-1] == (1_001, 1_001)
    assert calls == sorted(calls)


def test_failures_leave_nothing_behind(
    backend: Counting, tokenizer: ClipTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error of the engine the next question works."""
    features = TextFeatures(backend, tokenizer, templates="none")

    def fail(tokens: object) -> None:
        raise BackendError("out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "encode_texts", fail)
        with pytest.raises(BackendError):
            features(["dog"])
    assert features(["dog"]).shape[0] == 1


def test_threads(backend: Counting, tokenizer: ClipTokenizer) -> None:
    """Several threads get the same features, and words are still encoded once."""
    features = TextFeatures(backend, tokenizer, templates="none")
    results: list[npt.NDArray[np.float32]] = []
    threads = [
        threading.Thread(target=lambda: results.append(features(["dog", "cat"]))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(backend.shapes) == 1
    assert all(np.array_equal(result, results[0]) for result in results)
    assert len(results) == 8


def test_bad_arguments(backend: Counting, tokenizer: ClipTokenizer) -> None:
    """No template and no word are errors."""
    with pytest.raises(ConfigError, match="each needs one"):
        TextFeatures(backend, tokenizer, templates=["a photo"])
    with pytest.raises(ConfigError, match="no words"):
        TextFeatures(backend, tokenizer, templates=resolve_templates("none").prompts)([])

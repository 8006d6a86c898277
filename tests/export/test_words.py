"""The words that lie beside the similarity head."""

import json
from pathlib import Path

import numpy as np
import pytest

from atas_deploy.backends.ort import OrtBackend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError
from atas_deploy.export.words import write_words
from atas_deploy.models import open_model
from atas_deploy.runtime.segment import Segmenter


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    """The embedded model, which is trained."""
    return open_model("atas-tiny")


def test_rows_are_the_queries_of_segment(tiny: Bundle, tmp_path: Path) -> None:
    """The numbers are those that `segment` multiplies features with, background first."""
    backend = OrtBackend(tiny)
    write_words(tiny, backend, "dog|puppy,grass", tmp_path)
    facts = json.loads((tmp_path / "words.json").read_text())
    rows = np.fromfile(tmp_path / "words.f32", "<f4").reshape(facts["embeddings"]["shape"])
    segmenter = Segmenter(tiny, "dog|puppy,grass", backend=backend, cache=False)
    expected = segmenter._words.queries / tiny.manifest.logit_scale
    np.testing.assert_allclose(rows.T, expected, rtol=0, atol=1e-6)
    assert facts["classes"] == ["background", "dog", "grass"]
    assert [(q["text"], q["class"]) for q in facts["queries"]][-3:] == [
        ("dog", 1),
        ("puppy", 1),
        ("grass", 2),
    ]
    assert facts["queries"][0]["class"] == 0


def test_bad_class_lists_are_refused(tiny: Bundle, tmp_path: Path) -> None:
    """As everywhere, before anything is written."""
    with pytest.raises(ConfigError, match="empty"):
        write_words(tiny, OrtBackend(tiny), "dog,,grass|", tmp_path)
    assert not list(tmp_path.iterdir())

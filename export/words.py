"""Words made ready for the similarity head: a program needs no tokenizer and no text encoder.

    words.f32   float32, little-endian, C rows of D numbers: what the input `text` takes
    words.json  what row belongs to which class, and what the numbers were made with

C queries, D embedding width
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atas_deploy.core.bundle import Bundle
from atas_deploy.core.templates import DEFAULT_TEMPLATES
from atas_deploy.core.vocabulary import Vocabulary, build_vocabulary
from atas_deploy.runtime.text import TextEncoder, TextFeatures

WORDS = "words.json"
EMBEDDINGS = "words.f32"


def write_words(
    bundle: Bundle, encoder: TextEncoder, classes: str | Sequence[str] | Vocabulary, folder: Path
) -> None:
    """Encode a class list with its background, as `segment` does by default, and write it.

    Args:
        bundle: the model.
        encoder: encodes its texts.
        classes: in the grammar of `atas_deploy.core.classes`, or ready.
        folder: an existing folder.

    Raises:
        ConfigError: the class list cannot be used.
        BackendError: the engine fails.
    """
    vocabulary = classes if isinstance(classes, Vocabulary) else build_vocabulary(classes)
    texts = TextFeatures(encoder, bundle.tokenizer(), templates=DEFAULT_TEMPLATES)
    embeddings = texts(vocabulary.queries)
    (folder / EMBEDDINGS).write_bytes(embeddings.astype("<f4").tobytes())
    content = json.dumps(_facts(bundle, vocabulary, embeddings), indent=2, ensure_ascii=False)
    (folder / WORDS).write_text(content + "\n", encoding="utf-8")


def _facts(
    bundle: Bundle, vocabulary: Vocabulary, embeddings: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """Content of words.json."""
    rows = zip(vocabulary.queries, vocabulary.query_class.tolist(), strict=True)
    return {
        "embeddings": {"file": EMBEDDINGS, "dtype": "float32 little-endian"}
        | {"shape": list(embeddings.shape)},
        "model": bundle.manifest.name,
        "text_fingerprint": bundle.text_fingerprint,
        "templates": list(DEFAULT_TEMPLATES),
        "background": vocabulary.rule,
        "classes": ["background", *vocabulary.names],
        "queries": [{"text": text, "class": label} for text, label in rows],
    }

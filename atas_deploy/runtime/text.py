"""Class words to text features.

Q queries, T templates, L tokens, D embedding width
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.tokenizer import ClipTokenizer

_BATCH = 256


class TextFeatures:
    """Prompt-averaged text features, computed once per query.

    Args:
        backend: engine that encodes tokens.
        tokenizer: the bundle's tokenizer.
        templates: T prompts, each with one `{}`.

    Raises:
        ConfigError: no template, or one without `{}`.
    """

    def __init__(
        self, backend: Backend, tokenizer: ClipTokenizer, *, templates: Sequence[str]
    ) -> None:
        if not templates or (wrong := [t for t in templates if t.count("{}") != 1]):
            got = repr(wrong[0]) if templates else "an empty list"
            raise ConfigError(f'Got {got} as prompt template; each needs one "{{}}" for the word.')
        self.templates = tuple(templates)
        self._backend, self._tokenizer = backend, tokenizer
        self._known: dict[str, npt.NDArray[np.float32]] = {}

    def __call__(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Normalised mean over the templates of each query: (Q, D) float32, L2-normalised."""
        missing = [query for query in dict.fromkeys(queries) if query not in self._known]
        per_batch = max(1, _BATCH // len(self.templates))
        for start in range(0, len(missing), per_batch):
            self._encode(missing[start : start + per_batch])
        return np.stack([self._known[query] for query in queries])

    def _encode(self, queries: Sequence[str]) -> None:
        prompts = [
            template.replace("{}", query) for query in queries for template in self.templates
        ]
        features = self._backend.encode_texts(self._tokenizer(prompts))
        mean = features.reshape(len(queries), len(self.templates), -1).mean(axis=1)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        self._known.update(zip(queries, mean, strict=True))

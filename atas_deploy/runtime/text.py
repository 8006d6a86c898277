"""Class words to text features.

Q queries, T templates, N prompts, L tokens, D embedding width
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from atas_deploy.core.errors import ConfigError
from atas_deploy.core.hf_tokenizer import Tokenizer
from atas_deploy.core.templates import fill, resolve_templates
from atas_deploy.runtime.text_store import Features, TextStore

_BATCH = 256
_BLOCK = 4_096  # prompts that are tokenised, sorted by length and stored together
_SLOW = 1_000  # prompts from which on progress is reported
_MAX_KNOWN = 64 * 2**20  # bytes


class TextEncoder(Protocol):
    """A backend, or what it encodes texts with."""

    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> Features:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised."""
        ...


class TextFeatures:
    """Prompt-averaged text features, computed once per query.

    Args:
        backend: engine that encodes tokens.
        tokenizer: the bundle's tokenizer.
        templates: T prompts, each with one `{}`, or what `resolve_templates` takes.
        store: cache on disk.
        progress: called with (prompts done, prompts in all), first with 0 done, if there are more
            than 1,000 to encode.

    Raises:
        ConfigError: no template, or one without `{}`.
    """

    def __init__(
        self,
        backend: TextEncoder,
        tokenizer: Tokenizer,
        *,
        templates: str | Sequence[str],
        store: TextStore | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.templates = resolve_templates(templates).prompts
        self.store = store
        self._backend, self._tokenizer = backend, tokenizer
        self._progress = progress
        self._known: OrderedDict[str, Features] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, queries: Sequence[str]) -> Features:
        """Normalised mean over the templates of each query: (Q, D) float32, L2-normalised.

        Raises:
            ConfigError: no query.
            BackendError: the engine fails.
        """
        if not queries:
            raise ConfigError("Got no words to encode; name at least one.")
        with self._lock:
            features = {query: self._known[query] for query in queries if query in self._known}
            missing = [query for query in dict.fromkeys(queries) if query not in features]
            if self.store and missing:
                features |= self.store.read(self.templates, missing)
                missing = [query for query in missing if query not in features]
            features |= self._encode_all(missing)
            self._remember(features)
        return np.stack([features[query] for query in queries])

    def _remember(self, features: dict[str, Features]) -> None:
        """Keep features in memory, the latest used longest."""
        for query, feature in features.items():
            if query not in self._known:
                self._known[query] = feature.copy()  # a view would keep its whole block alive
            self._known.move_to_end(query)
        width = next(iter(features.values())).nbytes
        while len(self._known) > _MAX_KNOWN // width:
            self._known.popitem(last=False)

    def _encode_all(self, queries: Sequence[str]) -> dict[str, Features]:
        """Encode block by block and store each, so that an interrupted run keeps what it did."""
        features: dict[str, Features] = {}
        per_block = max(1, _BLOCK // len(self.templates))
        by_length = sorted(queries, key=len)  # a block of like lengths wastes little
        report = _reporter(self._progress, total=len(queries) * len(self.templates))
        for start in range(0, len(by_length), per_block):
            block = by_length[start : start + per_block]
            found = dict(zip(block, self._encode_block(block, report), strict=True))
            if self.store:
                self.store.write(self.templates, found)
            features |= found
        return features

    def _encode_block(self, queries: Sequence[str], report: Callable[[int], None]) -> Features:
        """Normalised means of the prompts of each query, (Q, D)."""
        prompts = [fill(template, query) for query in queries for template in self.templates]
        order: list[npt.NDArray[np.intp]] = []
        encoded: list[Features] = []
        for rows, features in self._batches(prompts):
            order.append(rows)
            encoded.append(features)
            report(len(rows))
        features_ND = np.concatenate(encoded)[np.argsort(np.concatenate(order))]
        means: Features = features_ND.reshape(len(queries), len(self.templates), -1).mean(axis=1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means

    def _batches(self, prompts: Sequence[str]) -> Iterator[tuple[npt.NDArray[np.intp], Features]]:
        """Encode prompts from short to long, each batch as wide as its longest."""
        tokens_NL = self._tokenizer(prompts)
        lengths = self._tokenizer.lengths(tokens_NL)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            yield rows, self._backend.encode_texts(tokens_NL[rows, : lengths[rows[-1]]])


def _reporter(progress: Callable[[int, int], None] | None, *, total: int) -> Callable[[int], None]:
    """A function that counts prompts and reports them if there are many."""
    if progress is None or total <= _SLOW:
        return lambda count: None
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    report(0)
    return report

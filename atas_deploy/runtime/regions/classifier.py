"""`RegionClassifier`: a picture with its boxes or masks and words in, names out.

K regions, D embedding width, Q queries, C classes, T of them kept
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.backends.base import Backend
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.presets import Protocol
from atas_deploy.core.region import NamedRegions, Region
from atas_deploy.runtime.encode import Encoded, as_image
from atas_deploy.runtime.encoders import check_engine
from atas_deploy.runtime.label import Words
from atas_deploy.runtime.labeller import Labeller
from atas_deploy.runtime.pipeline import ahead
from atas_deploy.runtime.regions.embedding import (
    EMBEDS,
    Finder,
    ImageLike,
    RegionEmbedder,
    check_crop_weight,
    mix_embeddings,
)
from atas_deploy.runtime.regions.ranking import class_probability, rank_classes
from atas_deploy.runtime.regions.tracks import TrackNames
from atas_deploy.runtime.settle import (
    check_batch_size,
    check_choice,
    check_number,
    check_whole,
    settle,
)

FloatArray = npt.NDArray[np.float32]
_LOGITS = 4_000_000  # at once


class RegionClassifier(Labeller):
    """Open-vocabulary names for boxes and masks.

    A region's embedding is compared with the words: the softmax over all queries of the logit scale
    times the cosine, a class gets its best query's probability. A region without an embedding (no
    area, or outside the picture) gets zeros, and so the same probability for every query.

    Example:
        >>> classifier = RegionClassifier("atas-tiny", classes="dog|puppy,person")
        >>> named = classifier("photo.jpg", [Region(box=(10, 20, 200, 180))])
        >>> named.name(0), named.scores[0, 0]

    Args:
        model: as for `Segmenter`.
        classes: as for `Segmenter`.
        embed: "dense" (the default: one pass over the picture, whatever the number of regions;
            RoIAlign for boxes, pooling for masks), "crop" (the box of each region cut out and
            encoded by the class token), or "both": the geometric mean of their probabilities,
            dense^(1 - w) * crop^w, made to sum to 1 again.
        crop_weight: w, the weight of the crop in "both", in [0, 1]; F-VLM has 0.65 for the CLIP
            score of classes that its detector did not learn.
        crop_scale: factor on both sides of the box that is cut out; CLIPSelf has 1.0 for boxes of
            a grid and 1.5 for proposals and where it measures. On a hundred pictures of COCO 1.5
            named no more regions right than 1.0 (docs/commands/classify.md).
        top: T, how many classes each region is given.
        readout: as for `Segmenter`.
        background: as for `Segmenter`, but "none" is the default: regions hold something.
        threshold: least probability of a region that is no background, in [0, 1]; None = 0.
        templates: as for `Segmenter`.
        short_side: shorter side of the encoder's input for "dense" in pixels; None = the model's.
        window: side of sliding windows in pixels of that input; None = whole.
        stride: from one window to the next in pixels; None = half a window.
        logit_scale: factor on cosine similarities; None = the model's own.
        backend: "ort", "trt", or the engine of an open bundle, ready to use.
        device: "cpu", "cuda" or "cuda:N"; None = "cpu" for "ort" and "cuda" for "trt"; a ready
            engine has its own.
        batch_size: pictures, windows or crops encoded at once.
        cache: whether to keep text features on disk for the next run.
        progress: called with (done, total) while thousands of prompts are encoded.
        tell: called with one line when the model must be exported first.

    Attributes:
        bundle: the model.
        backend: the engine.
        encoders: the model on its engine, which gives encoders of other sizes, too.
        encoder: turns a picture into what `embed_dense` takes.
        embedder: turns crops into vectors, at the size the class token was trained at.
        templates: the prompts.

    Raises:
        ConfigError: an argument cannot be used.
        BundleError: the bundle is missing or damaged.
        BackendUnavailableError: the engine or device is missing.

    Source: Wu et al., "CLIPSelf", ICLR 2024, section 3 (dense and crop); the geometric mean after
    Kuo et al., "F-VLM", ICLR 2023, where the product is left as it is.
    """

    def __init__(  # noqa: PLR0913
        self,
        model: str | Path | Bundle = "atas-tiny",
        classes: str | Sequence[str] = (),
        *,
        embed: str = "dense",
        crop_weight: float = 0.65,
        crop_scale: float = 1.0,
        top: int = 5,
        readout: str | None = None,
        background: str | Sequence[str] = "none",
        threshold: float | None = None,
        templates: str | Sequence[str] = "default",
        short_side: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        logit_scale: float | None = None,
        backend: str | Backend = "ort",
        device: str | None = None,
        batch_size: int = 1,
        cache: bool = True,
        progress: Callable[[int, int], None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        check_engine(backend, device)
        batch_size = check_batch_size(batch_size)
        check_choice("embedding", embed, EMBEDS)
        self.embed = embed
        self.crop_weight = check_crop_weight(crop_weight)
        self.crop_scale = check_number(
            "crop scale", crop_scale, "a number above 0", lambda s: s > 0
        )
        self.top = check_whole("top", top, "a whole number of classes above 0")
        protocol = settle(
            Protocol(),
            readout=readout,
            background=background,
            threshold=threshold,
            templates=templates,
            short_side=short_side,
            window=window,
            stride=stride,
            logit_scale=logit_scale,
        )
        super().__init__(
            model,
            classes,
            protocol=protocol,
            backend=backend,
            device=device,
            batch_size=batch_size,
            cache=cache,
            progress=progress,
            tell=tell,
        )
        self.embedder = self.encoders.whole(fit="longest")
        self._regions = RegionEmbedder(
            self.encoder,
            self.embedder,
            embed=embed,
            crop_weight=self.crop_weight,
            crop_scale=self.crop_scale,
        )

    def __call__(self, image: ImageLike, regions: Sequence[Region] | Finder) -> NamedRegions:
        """Name the regions of one picture: see `name`."""
        return self.name(image, regions)

    def name(
        self, image: ImageLike, regions: Sequence[Region] | Finder, *, top: int | None = None
    ) -> NamedRegions:
        """Name the regions of one picture.

        Args:
            image: a path, or (H, W, 3) uint8 RGB.
            regions: K of them, boxes or masks; or a function that finds them in the encoded
                picture, such as `propose`.
            top: T; None = as for the class.

        Raises:
            ConfigError: `top` cannot be used.
            InputError: the picture cannot be read, or a box is not four finite numbers.
            BackendError: the engine fails.
        """
        found, embeddings = self._regions(as_image(image), regions)
        return self.rank(found, embeddings, top=top)

    def stream(
        self,
        pictures: Iterable[tuple[ImageLike, Sequence[Region] | Finder]],
        *,
        top: int | None = None,
        every: int = 1,
        tracks: TrackNames | None = None,
    ) -> Generator[NamedRegions]:
        """Name the regions of pictures as they come, in order and in flat memory.

        Reading, encoding and ranking overlap, as in `Segmenter.stream`.

        Args:
            pictures: each with its regions, as for `name`.
            top: T; None = as for the class.
            every: encode dense features of each N-th picture only, as for a video; the regions of
                those between are pooled from the one before, if they have its size, and what a
                function found in it holds for them. Crops are always the picture's own.
            tracks: names the regions of a video by all that was seen of their tracks; None = each
                picture by itself.

        Raises:
            ConfigError: `top` or `every` cannot be used.
            InputError: an item cannot be read, or a box is not four finite numbers.
            BackendError: the engine fails.
        """
        if every < 1:
            raise ConfigError(f"Got every {every} pictures; expected 1 or more.")
        self._top(top)
        return self._stream(pictures, top=top, every=every, tracks=tracks)

    def _stream(
        self,
        pictures: Iterable[tuple[ImageLike, Sequence[Region] | Finder]],
        *,
        top: int | None,
        every: int,
        tracks: TrackNames | None,
    ) -> Generator[NamedRegions]:
        with closing(ahead(self._regions.stream(pictures, every=every))) as embedded:
            for regions, embeddings in embedded:
                known = tracks(regions, embeddings) if tracks is not None else embeddings
                yield self.rank(regions, known, top=top)

    def embed_dense(self, encoded: Encoded, regions: Sequence[Region]) -> FloatArray:
        """Embed regions from what `self.encoder(image)` gave: see `RegionEmbedder.dense`."""
        return self._regions.dense(encoded, regions)

    def embed_crops(self, image: ImageLike, regions: Sequence[Region]) -> FloatArray:
        """Embed regions cut out of their picture: see `RegionEmbedder.crops`."""
        return self._regions.crops(as_image(image), regions)

    def mix(
        self, dense: FloatArray, crops: FloatArray, *, crop_weight: float | None = None
    ) -> FloatArray:
        """Mix what those two gave for the same regions: see `mix_embeddings`.

        Args:
            dense: (K, D).
            crops: (K, D).
            crop_weight: of the crops, in [0, 1]; None = as for the class.

        Raises:
            ConfigError: the weight is out of range.
        """
        weight = self.crop_weight if crop_weight is None else check_crop_weight(crop_weight)
        return mix_embeddings(dense, crops, crop_weight=weight)

    def logits(self, embeddings: FloatArray) -> FloatArray:
        """Logit scale times the cosine with each query: (K, D) to (K, Q) float32."""
        return embeddings @ self._words.queries

    def scores(self, embeddings: FloatArray) -> FloatArray:
        """Probability of each class: (K, D) to (K, C + 1) float32.

        Column 0 is the background, 0 where it has no words; a class's is its best query's.
        """
        return _scores(embeddings, self._words)

    def rank(
        self, regions: Sequence[Region], embeddings: FloatArray, *, top: int | None = None
    ) -> NamedRegions:
        """Name regions by their embeddings.

        Label 0, the background, comes first where the best query is a background word or the best
        probability is below the threshold, with the probability of the best background word.

        Args:
            regions: K of them.
            embeddings: (K, D) float32 of `embed_dense`, `embed_crops`, `mix` or `TrackNames`.
            top: T; None = as for the class. No more than C classes are named.

        Raises:
            ConfigError: `top` cannot be used.
        """
        words = self._words  # one list for a picture, even if another thread changes it
        names = words.vocabulary.names
        count = min(self._top(top), len(names))
        labels = np.empty((len(regions), count), np.intp)
        scores = np.empty((len(regions), count), np.float32)
        step = max(1, _LOGITS // words.queries.shape[1])
        for start in range(0, len(regions), step):
            some = slice(start, start + step)
            probability = _scores(embeddings[some], words)
            labels[some], scores[some] = rank_classes(
                probability, top=count, threshold=self.protocol.threshold
            )
        return NamedRegions(tuple(regions), names, labels, scores)

    def _top(self, top: int | None) -> int:
        return self.top if top is None else check_whole("top", top, "a number of classes above 0")


def _scores(embeddings: FloatArray, words: Words) -> FloatArray:
    return class_probability(embeddings @ words.queries, words.vocabulary.query_class)

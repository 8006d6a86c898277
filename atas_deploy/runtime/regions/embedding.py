"""Regions and their picture to one vector each: dense features, crops, or both.

K regions, D embedding width
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atas_deploy.core.region import Region
from atas_deploy.core.regions import check_boxes
from atas_deploy.runtime.embed import ImageEmbedder
from atas_deploy.runtime.encode import Encoded, Image, ImageEncoder, as_image
from atas_deploy.runtime.pipeline import ahead
from atas_deploy.runtime.regions.crops import cut_crop
from atas_deploy.runtime.regions.pool import pool_regions
from atas_deploy.runtime.settle import check_number

FloatArray = npt.NDArray[np.float32]
Finder = Callable[[Encoded], Sequence[Region]]
ImageLike = Image | str | Path

EMBEDS = ("dense", "crop", "both")


class RegionEmbedder:
    """Embeds the regions of pictures.

    Args:
        encoder: of pictures to dense features.
        embedder: of crops to vectors.
        embed: "dense", "crop" or "both", see `RegionClassifier`.
        crop_weight: of the crops in "both", in [0, 1].
        crop_scale: factor on both sides of the box that is cut out.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        embedder: ImageEmbedder,
        *,
        embed: str,
        crop_weight: float,
        crop_scale: float,
    ) -> None:
        self._encoder, self._embedder = encoder, embedder
        self._embed, self._crop_weight, self._crop_scale = embed, crop_weight, crop_scale

    def __call__(
        self, image: Image, regions: Sequence[Region] | Finder
    ) -> tuple[Sequence[Region], FloatArray]:
        """The regions of a picture, found if need be, and their embeddings (K, D).

        Raises:
            InputError: a box is not four finite numbers.
            BackendError: the engine fails.
        """
        dense = self._embed != "crop" or callable(regions)
        return self._of(image, self._encoder(image) if dense else None, regions)

    def stream(
        self, pictures: Iterable[tuple[ImageLike, Sequence[Region] | Finder]], *, every: int = 1
    ) -> Generator[tuple[Sequence[Region], FloatArray]]:
        """As a call, picture by picture; they are read and encoded in threads of their own.

        Args:
            pictures: each with its regions.
            every: encode dense features of each N-th picture only, if those between have its size;
                regions that were found in it hold for them.

        Raises:
            InputError: a picture cannot be read, or a box is not four finite numbers.
            BackendError: the engine fails.
        """
        if self._embed != "crop":
            return self._encode_and_embed(pictures, every=every)
        return self._crop_and_embed(pictures, every=every)

    def _crop_and_embed(
        self, pictures: Iterable[tuple[ImageLike, Sequence[Region] | Finder]], *, every: int
    ) -> Generator[tuple[Sequence[Region], FloatArray]]:
        read = ((as_image(picture), regions) for picture, regions in pictures)
        held: Sequence[Region] = ()
        shape: tuple[int, ...] = ()  # of the picture they were found in
        since = every  # pictures from it on
        with closing(ahead(read)) as waiting:
            for image, regions in waiting:
                since += 1
                if callable(regions):
                    if since >= every or image.shape != shape:
                        held, shape, since = regions(self._encoder(image)), image.shape, 0
                    regions = held
                yield regions, self.crops(image, regions)

    def _encode_and_embed(
        self, pictures: Iterable[tuple[ImageLike, Sequence[Region] | Finder]], *, every: int
    ) -> Generator[tuple[Sequence[Region], FloatArray]]:
        taken: deque[tuple[Image, Sequence[Region] | Finder]] = deque()

        def images() -> Iterator[Image]:
            for picture, regions in pictures:
                image = as_image(picture)
                taken.append((image, regions))
                yield image

        encoded: Encoded | None = None
        held: Sequence[Region] | None = None  # found in it
        with closing(self._encoder.stream(images(), every=every)) as stream:
            for found in stream:
                if found is not None:
                    encoded, held = found, None
                image, regions = taken.popleft()
                if callable(regions):
                    assert encoded is not None
                    regions = held = regions(encoded) if held is None else held
                yield self._of(image, encoded, regions)

    def _of(
        self, image: Image, encoded: Encoded | None, regions: Sequence[Region] | Finder
    ) -> tuple[Sequence[Region], FloatArray]:
        if callable(regions):
            assert encoded is not None
            regions = regions(encoded)
        if self._embed == "crop":
            return regions, self.crops(image, regions)
        assert encoded is not None
        dense = self.dense(encoded, regions)
        if self._embed == "dense":
            return regions, dense
        crops = self.crops(image, regions)
        return regions, mix_embeddings(dense, crops, crop_weight=self._crop_weight)

    def dense(self, encoded: Encoded, regions: Sequence[Region]) -> FloatArray:
        """Embed regions from the dense features of their picture.

        A region with a mask is pooled over it; `dataclasses.replace(region, rle=None)` is its box.

        Args:
            encoded: the picture.
            regions: K of them.

        Returns:
            (K, D) float32, L2-normalised; zeros for a region without area or outside the picture.

        Raises:
            ConfigError: the features are those of windows that are merged as pixels.
            InputError: a box is not four finite numbers.
        """
        return pool_regions(encoded, regions)

    def crops(self, image: Image, regions: Sequence[Region]) -> FloatArray:
        """Embed the boxes of regions, cut out of the picture, by the class token.

        A crop's longer side gets the size that the class token was trained at, the rest is filled
        with the mean colour. A mask does not count, only its box. The crops are encoded a batch at
        a time.

        Args:
            image: (H, W, 3) uint8 RGB.
            regions: K of them.

        Returns:
            (K, D) float32, L2-normalised; zeros for a region without area or outside the picture.

        Raises:
            InputError: a box is not four finite numbers.
            BackendError: the engine fails.
        """
        boxes = check_boxes([region.box for region in regions]).tolist()
        kept: list[int] = []

        def cut() -> Iterator[Image]:
            for index, box in enumerate(boxes):
                crop = cut_crop(image, box, scale=self._crop_scale)
                if crop is not None:
                    kept.append(index)
                    yield crop

        embedded = np.zeros((len(regions), self._embedder.width), np.float32)
        for count, vector in enumerate(self._embedder.stream(cut())):
            embedded[kept[count]] = vector
        return embedded


def mix_embeddings(dense: FloatArray, crops: FloatArray, *, crop_weight: float) -> FloatArray:
    """Mix two embeddings of the same regions, so that logits are the weighted mean of theirs.

    The softmax of that is the weighted geometric mean of both probabilities, made to sum to 1.

    Args:
        dense: (K, D) of `RegionEmbedder.dense`.
        crops: (K, D) of `RegionEmbedder.crops`.
        crop_weight: w, of the crops, in [0, 1].

    Returns:
        (K, D) float32, not normalised.

    Source: Kuo et al., "F-VLM", ICLR 2023; there the product is left as it is.
    """
    return np.float32(1 - crop_weight) * dense + np.float32(crop_weight) * crops


def check_crop_weight(weight: float) -> float:
    """A weight of the crops as a float.

    Raises:
        ConfigError: it is none in [0, 1].
    """
    return check_number("crop weight", weight, "a number in [0, 1]", lambda w: 0 <= w <= 1)

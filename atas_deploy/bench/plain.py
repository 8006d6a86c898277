"""The plain way, to compare with: PyTorch, one frame at a time, all query maps at full size.

float32, eager; a frame is decoded, resized, encoded and multiplied with the words, the map of each
word is enlarged to the frame and the largest taken; then the overlay is drawn and encoded, and the
next frame begins. Weights, sizes, words, drawing and video encoder are those of our runtime.

H W pixels, h w grid, D embedding width, Q queries
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy.backends.ort_threads import thread_count
from atas_deploy.bench.memory import available
from atas_deploy.bench.plan import Contender
from atas_deploy.bench.stopwatch import Stopwatch
from atas_deploy.bench.words import UNLISTED, lvis
from atas_deploy.clip.pixels import ImageGraph
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.clip.weights import load_model
from atas_deploy.core.bundle import Bundle
from atas_deploy.core.errors import BackendUnavailableError
from atas_deploy.core.geometry import Size, encoder_size, resize_image
from atas_deploy.core.masks import Labels, as_labels
from atas_deploy.core.results import Segmentation
from atas_deploy.core.vocabulary import build_vocabulary
from atas_deploy.media.video import VideoReader, VideoWriter
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.outputs import OutputFolder
from atas_deploy.runtime.text import TextFeatures
from atas_deploy.runtime.text_store import TextStore

Image = npt.NDArray[np.uint8]


class Plain:
    """A model in PyTorch, with words.

    Args:
        contender: what to run.

    Attributes:
        device: "cpu", "cuda" or "cuda:N".
        batch_size: 1.
        text_seconds: that the words took.

    Raises:
        CheckpointError: the bundle holds no weights, or they do not fit.
        BackendUnavailableError: PyTorch has no such device.
        ConfigError: there are not so many words.
    """

    batch_size = 1

    def __init__(self, contender: Contender) -> None:
        self.device = _check_device(contender.device)
        torch.set_num_threads(thread_count())
        self._bundle, self._short_side = Bundle.open(contender.model), contender.short_side
        self._vocabulary = build_vocabulary(lvis(contender.words), background="none")
        self._label_of = as_labels(self._vocabulary.query_class)
        self._load(contender.model)
        self._folder = OutputFolder(
            Path(), classes=self._vocabulary.classes, options=JobOptions(max_frames=1)
        )

    def _load(self, folder: str) -> None:
        manifest, clip = self._bundle.manifest, load_model(folder)
        tower = DenseViT(
            clip.model.visual,
            manifest.readout,
            stride=manifest.stride,
            attention_window=manifest.attention_window,
        )
        graph = ImageGraph(tower, mean=clip.mean, std=clip.std)
        self._graph = graph.eval().to(self.device)
        texts = TextFeatures(
            _Texts(TextEncoder(clip.model).eval(), self.device),
            self._bundle.tokenizer(),
            templates="default",
            store=TextStore(self._bundle),
        )
        texts(UNLISTED)
        start = time.perf_counter()
        features = texts(self._vocabulary.queries)
        self.text_seconds = time.perf_counter() - start
        queries_DQ = np.float32(manifest.logit_scale) * features.T
        self._queries_DQ = torch.from_numpy(np.ascontiguousarray(queries_DQ)).to(self.device)

    def run(self, video: Path, out: Path, *, frames: int, tick: Callable[[], None]) -> None:
        """Make the overlay video, one frame after the other."""
        out.mkdir()
        with (
            VideoReader(video, max_frames=frames) as reader,
            VideoWriter(out / "overlay.mp4", source=reader) as writer,
        ):
            for frame in reader:
                watch = Stopwatch()
                (features,) = self.encode([frame.image], watch)
                _, overlay = self.label(frame.image, features, watch)
                writer.write(overlay, frame)
                tick()

    def input_size(self, size: Size) -> Size:
        """(height, width) of the encoder's input for frames of a size."""
        manifest = self._bundle.manifest
        grid = {"multiple": manifest.multiple, "cell": manifest.cell}
        return encoder_size(size, short_side=self._short_side, **grid)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image], watch: Stopwatch) -> list[Tensor]:
        """Fit and encode one (H, W, 3) frame: (h, w, D)."""
        (image,) = images
        size = image.shape[0], image.shape[1]
        with watch("preprocess"):
            fitted = resize_image(image, self.input_size(size))
        pixels = torch.from_numpy(fitted)[None]
        if self.device != "cpu":
            with watch("transfer"):
                pixels = self._done(pixels.to(self.device))
        with watch("encoder"):
            return [self._done(self._graph(pixels)[0][0])]

    @torch.inference_mode()
    def label(self, image: Image, encoded: Tensor, watch: Stopwatch) -> tuple[Labels, Image]:
        """Labels (H, W) and overlay (H, W, 3) of a frame."""
        size = image.shape[0], image.shape[1]
        self._check_memory(size)
        with watch("text_product"):
            logits_hwQ = self._done(encoded @ self._queries_DQ)
        with watch("masks"):
            labels = self._label(logits_hwQ, size)
        with watch("overlay"):
            scores = np.zeros(len(self._vocabulary.names), np.float32)
            result = Segmentation(labels, self._vocabulary.names, scores)
            overlay = self._folder.overlay(image, result)
        return labels, overlay

    def _label(self, logits_hwQ: Tensor, size: Size) -> Labels:  # noqa: N803
        """(h, w, Q) logits to (H, W) labels, by all maps at full size.

        Contiguous maps and `max` are the fastest plain way: `argmax` takes up to three times as
        long on the CPU, and maps that lie one word beside the other six times.
        """
        grid = logits_hwQ.permute(2, 0, 1).contiguous()[None]
        maps = F.interpolate(grid, size, mode="bilinear", align_corners=False)[0]
        labels: Labels = self._label_of[maps.max(dim=0).indices.cpu().numpy()]
        return labels

    def _done(self, tensor: Tensor) -> Tensor:
        """The tensor, once the GPU has computed it."""
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)
        return tensor

    def _check_memory(self, size: Size) -> None:
        """Refuse maps that would not fit: the machine would stall, or kill a process.

        Raises:
            BackendUnavailableError: they do not.
        """
        needed, free = 4 * len(self._vocabulary.queries) * size[0] * size[1], available()
        if self.device != "cpu" and torch.cuda.is_available():
            free = torch.cuda.mem_get_info(self.device)[0]
        if free is not None and needed > 0.8 * free:
            raise BackendUnavailableError(
                f"The plain baseline would take {needed / 1e9:.1f} GB for the maps of "
                f"{len(self._vocabulary.queries)} words, and {free / 1e9:.1f} GB are free; use "
                "fewer words or a smaller size."
            )


class _Texts:
    """A text tower as an engine."""

    def __init__(self, tower: TextEncoder, device: str) -> None:
        self._tower, self._device = tower.to(device), device

    @torch.inference_mode()
    def encode_texts(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Encode (N, L) int64 tokens to (N, D) float32, L2-normalised."""
        features: npt.NDArray[np.float32] = (
            self._tower(torch.from_numpy(tokens).to(self._device)).cpu().numpy()
        )
        return features


def _check_device(device: str) -> str:
    if device != "cpu" and not torch.cuda.is_available():
        raise BackendUnavailableError(
            f'The plain baseline was to run on "{device}", but this PyTorch has no GPU; install '
            "a build of PyTorch for CUDA."
        )
    return device

"""Train `atas-tiny`, the small CLIP that ships with the package.

    python -m atas_deploy.training.atas_tiny --data DIR --out DIR

DIR of the data holds `flickr8k/` (images_224.tar, captions.csv), `vit_tiny/` and
`text_embeddings/`. The work is done in pieces, each in a folder of its own below OUT, and the
command goes on where it was stopped:

1. cache/  features of the frozen ImageNet tower, whole images and crops
2. text/   the image tower is locked; the text tower and both projections learn
3. image/  the text tower is locked; the image tower learns to be dense

OUT itself becomes the model folder; it is refreshed at every checkpoint of the third piece.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from atas_deploy import __version__
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.text import TextEncoder
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.background import TABLE
from atas_deploy.core.bundle import MERGES
from atas_deploy.core.errors import AtasError, InputError
from atas_deploy.core.vocabulary import DEFAULT_TEMPLATES
from atas_deploy.training.checkpoint import CHECKPOINT, make_folder, write_model
from atas_deploy.training.contrastive import batches, encode_texts
from atas_deploy.training.loop import Hooks, LoopSettings, Objective, run
from atas_deploy.training.pairs import Pairs, open_pairs
from atas_deploy.training.tiny.features import (
    Boxes,
    crop_features,
    pixel_batches,
    random_boxes,
    whole_features,
)
from atas_deploy.training.tiny.image_phase import ImagePhase, ImagePhaseData, ImagePhaseSettings
from atas_deploy.training.tiny.split import HELD_OUT_FILE, held_out_names, names_hash, recall
from atas_deploy.training.tiny.start import (
    build_start,
    read_arrays,
    select_merges,
    tiny_config,
    write_merges,
)
from atas_deploy.training.tiny.text_phase import TextPhase, TextPhaseData, TextPhaseSettings
from atas_deploy.training.tiny.words import (
    PROMPTS,
    Names,
    caption_nouns,
    everyday_words,
    imagenet_names,
    table_names,
)

READOUT = "sclip"
SHORT_SIDE = 336
LICENSE = "LicenseRef-atas-tiny-weights"
TEXT_LOOP = LoopSettings(
    steps=600, learning_rate=1e-3, warmup_steps=50, precision="bf16", log_every=50
)
IMAGE_LOOP = LoopSettings(
    steps=900,
    learning_rate=1e-3,
    warmup_steps=40,
    precision="bf16",
    log_every=25,
    save_every=150,
)
_SPECIAL_TOKENS = 2 * 256 + 2  # bytes inside and at the end of words; start and end of text
_CAPTIONS = 5
_TEXTS_AT_ONCE = 4096
_RARE = 3  # caption words below this count get no token of their own


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Settings of the pieces.

    Attributes:
        seed: seed of everything.
        text_loop: how the first phase is optimised.
        text: its objective.
        image_loop: how the second phase is optimised.
        image: its objective.
    """

    seed: int = 0
    text_loop: LoopSettings = field(default_factory=lambda: TEXT_LOOP)
    text: TextPhaseSettings = field(default_factory=TextPhaseSettings)
    image_loop: LoopSettings = field(default_factory=lambda: IMAGE_LOOP)
    image: ImagePhaseSettings = field(
        default_factory=lambda: ImagePhaseSettings(readouts=(READOUT,))
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The data, read.

    Attributes:
        pairs: all images with captions.
        train: positions of the training images.
        held_out: positions of the others.
        head: the arrays of the ImageNet ViT.
        names: names of ImageNet classes.
        tables: names with CLIP embeddings.
        nouns: nouns of the training captions.
    """

    pairs: Pairs
    train: list[int]
    held_out: list[int]
    head: Mapping[str, Tensor]
    names: Names
    tables: Names
    nouns: Names


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train atas-tiny.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--text-steps", type=int, help="instead of the recipe's number")
    parser.add_argument("--image-steps", type=int, help="instead of the recipe's number")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe()
    if args.text_steps:
        recipe = replace(recipe, text_loop=replace(recipe.text_loop, steps=args.text_steps))
    if args.image_steps:
        recipe = replace(recipe, image_loop=replace(recipe.image_loop, steps=args.image_steps))
    try:
        train(args.data, args.out, recipe)
    except AtasError as exc:
        sys.exit(f"Error: {exc}")


def train(data: Path, out: Path, recipe: Recipe) -> None:
    """Run the pieces that are not done yet.

    Args:
        data: folder of the data.
        out: folder of the model and of the pieces.
        recipe: the settings.

    Raises:
        InputError: the data are incomplete.
        NonFiniteLossError: a phase diverged.
    """
    make_folder(out)
    sources = read_sources(data)
    clip = _start(sources, data, out, recipe)
    vit = DenseViT(clip.model.visual)
    cache = make_folder(out / "cache")
    boxes = random_boxes(len(sources.pairs), seed=recipe.seed)
    whole = whole_features(vit, sources.pairs, cache=cache, note=_note)
    crops = crop_features(vit, sources.pairs, boxes, cache=cache, note=_note)
    text_data = TextPhaseData(
        features=whole[:, sources.train],
        captions=[sources.pairs.captions[i] for i in sources.train],
        nouns=sources.nouns,
        names=sources.names,
        tables=sources.tables,
        head_weight=sources.head["head.weight"],
        head_bias=sources.head["head.bias"],
    )
    text_phase = TextPhase(clip, text_data, recipe.text, seed=recipe.seed)
    if not _run_piece(text_phase, recipe.text_loop, out / "text"):
        return
    image_data = _image_data(clip, sources, whole=whole, crops=crops, boxes=boxes)
    image_phase = ImagePhase(clip, image_data, recipe.image, seed=recipe.seed)
    save = _Saver(clip, sources, out, recipe)
    _run_piece(image_phase, recipe.image_loop, out / "image", save=save)


def read_sources(data: Path) -> Sources:
    """Read captions, names and the ImageNet head.

    Raises:
        InputError: something is missing.
    """
    flickr = data / "flickr8k"
    pairs = open_pairs(flickr / "images_224.tar", flickr / "captions.csv")
    listed = HELD_OUT_FILE.read_text(encoding="utf-8").split()
    if held_out_names(pairs.names) != listed:
        raise InputError(f"The images in {flickr} are not those that {HELD_OUT_FILE} was made for.")
    apart = set(listed)
    train = [i for i, name in enumerate(pairs.names) if name not in apart]
    tables, names = table_names(data / "text_embeddings"), imagenet_names()
    nouns = caption_nouns([pairs.captions[i] for i in train], tables.names + everyday_words())
    return Sources(
        pairs=pairs,
        train=train,
        held_out=[i for i, name in enumerate(pairs.names) if name in apart],
        head=read_arrays(_vit_file(data)),
        names=names,
        tables=tables,
        nouns=nouns,
    )


def encode(clip: ClipModel, texts: list[str]) -> Tensor:
    """Embed texts, (T, D), L2-normalised."""
    encoder, tokenizer = TextEncoder(clip.model), clip.tokenizer()
    with torch.inference_mode():
        rows = [
            encode_texts(encoder, torch.from_numpy(tokenizer(part)))
            for part in batches(texts, _TEXTS_AT_ONCE)
        ]
    return torch.cat(rows).float().clone()


def encode_names(clip: ClipModel, names: list[str]) -> Tensor:
    """Embed names as the runtime does: the normalised mean over the default templates."""
    rows = [encode(clip, [t.format(name) for name in names]) for t in DEFAULT_TEMPLATES]
    return F.normalize(torch.stack(rows).mean(dim=0), dim=-1)


def _start(sources: Sources, data: Path, out: Path, recipe: Recipe) -> ClipModel:
    """The untrained model, with its tokenizer written."""
    captions = [text for i in sources.train for text in sources.pairs.captions[i]]
    words = [*sources.names.names, *sources.tables.names, *sources.nouns.names]
    words += [*PROMPTS, *DEFAULT_TEMPLATES, *TABLE, *TABLE.values()]
    merges = select_merges(dict.fromkeys(captions, _RARE) | dict.fromkeys(words, 1))
    write_merges(out / MERGES, merges)
    config = tiny_config(_SPECIAL_TOKENS + len(merges))
    model = build_start(config, vit=_vit_file(data), seed=recipe.seed)
    return ClipModel(model=model, config=config, name="atas-tiny", merges=out / MERGES)


def _image_data(
    clip: ClipModel, sources: Sources, *, whole: Tensor, crops: Tensor, boxes: Boxes
) -> ImagePhaseData:
    """The second phase's targets: everything in the shared space of the first."""
    train = sources.train
    pairs = sources.pairs.subset([sources.pairs.names[i] for i in train])
    texts = [(captions * _CAPTIONS)[:_CAPTIONS] for captions in pairs.captions]
    names = sorted({*sources.names.names, *sources.tables.names, *sources.nouns.names})
    with torch.autocast("cpu", torch.bfloat16):  # thrice as fast, and these are but targets
        captions = encode(clip, [text for five in texts for text in five])
        words, nouns = encode_names(clip, names), encode_names(clip, sources.nouns.names)
    return ImagePhaseData(
        pairs=pairs,
        whole=whole.mean(dim=0)[train],
        boxes=boxes[train],
        crops=crops[train],
        head_weight=sources.head["head.weight"],
        head_bias=sources.head["head.bias"],
        captions=captions.reshape(len(train), _CAPTIONS, -1),
        words=words,
        nouns=nouns,
        mentions=torch.from_numpy(sources.nouns.targets.T > 0),
    )


def _run_piece(
    objective: Objective, settings: LoopSettings, folder: Path, *, save: "_Saver | None" = None
) -> bool:
    """Run a phase from its checkpoint, if there is one; tell whether it was finished."""
    resume = (folder / CHECKPOINT).exists()
    hooks = Hooks(on_log=lambda row: _note(f"{folder.name}: {dict(row)}"), on_save=save or _nothing)
    result = run(objective, settings, folder=folder, resume=resume, hooks=hooks)
    if result.interrupted:
        _note(f"stopped at step {result.step} of {settings.steps}; the same command goes on")
    return result.interrupted is None


class _Saver:
    """Measures and writes the model folder at a checkpoint of the last piece."""

    def __init__(self, clip: ClipModel, sources: Sources, out: Path, recipe: Recipe) -> None:
        self.clip, self.sources, self.out, self.recipe = clip, sources, out, recipe

    def __call__(self, step: int) -> None:
        """Write the model as it is after `step` steps."""
        metrics = measure_retrieval(self.clip, self.sources)
        _note(f"held-out images: {metrics}")
        write_model(
            self.out,
            self.clip.model,
            config=self.clip.config,
            merges=self.clip.merges,
            record=self._record(step, metrics),
        )

    def _record(self, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Content of training.json."""
        names = self.sources.pairs.names
        return {
            "name": self.clip.name,
            "architecture": "ViT-Ti/16, text 3x256",
            "readout": READOUT,
            "short_side": SHORT_SIDE,
            "license": LICENSE,
            "command": "python -m atas_deploy.training.atas_tiny",
            "version": __version__,
            "torch": torch.__version__,
            "image_phase_step": step,
            "recipe": asdict(self.recipe),
            "start": "ViT-Ti/16 trained on ImageNet (believed timm augreg_in21k_ft_in1k)",
            "data": {
                "flickr8k_train_images": len(self.sources.train),
                "flickr8k_held_out_images": len(self.sources.held_out),
                "held_out_sha256": names_hash([names[i] for i in self.sources.held_out]),
                "names": "ImageNet class names; LVIS and Objects365 names with the embeddings of "
                "OpenAI CLIP ViT-B/32 published by Detic",
            },
            "metrics": dict(metrics),
        }


def measure_retrieval(clip: ClipModel, sources: Sources) -> dict[str, float]:
    """Recall on the held-out images, all their captions as queries."""
    names = [sources.pairs.names[i] for i in sources.held_out]
    pairs = sources.pairs.subset(names)
    texts = [text for captions in pairs.captions for text in captions]
    owner = [image for image, captions in enumerate(pairs.captions) for _ in captions]
    with torch.autocast("cpu", torch.bfloat16):
        images, queries = embed_images(DenseViT(clip.model.visual), pairs), encode(clip, texts)
    return recall(images, queries, torch.tensor(owner))


def embed_images(vit: DenseViT, pairs: Pairs) -> Tensor:
    """Image embeddings (M, D), L2-normalised."""
    with torch.inference_mode():
        return torch.cat([vit(batch)[1].float() for batch in pixel_batches(pairs)])


def _vit_file(data: Path) -> Path:
    return data / "vit_tiny" / "vit_tiny_patch16_224.npz"


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _nothing(_: int) -> None:
    """Do nothing at a checkpoint."""


if __name__ == "__main__":
    main()

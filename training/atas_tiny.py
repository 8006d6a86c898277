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

from atas_deploy import __version__
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.background import TABLE
from atas_deploy.core.bundle import MERGES
from atas_deploy.core.errors import AtasError
from atas_deploy.core.templates import DEFAULT_TEMPLATES
from atas_deploy.training.checkpoint import CHECKPOINT, make_folder, write_model
from atas_deploy.training.loop import Hooks, LoopSettings, Objective, run
from atas_deploy.training.tiny.embed import encode, encode_names, measure_retrieval
from atas_deploy.training.tiny.features import (
    Boxes,
    crop_features,
    random_boxes,
    whole_features,
)
from atas_deploy.training.tiny.image_phase import ImagePhase, ImagePhaseData, ImagePhaseSettings
from atas_deploy.training.tiny.sources import Sources, read_sources, vit_file
from atas_deploy.training.tiny.split import names_hash
from atas_deploy.training.tiny.start import build_start, select_merges, tiny_config, write_merges
from atas_deploy.training.tiny.text_phase import TextPhase, TextPhaseData, TextPhaseSettings
from atas_deploy.training.tiny.words import PROMPTS

READOUT = "sclip"
SHORT_SIDE = 448
LICENSE = "LicenseRef-atas-tiny-weights"
TEXT_LOOP = LoopSettings(
    steps=600, learning_rate=1e-3, warmup_steps=50, precision="bf16", log_every=50
)
IMAGE_LOOP = LoopSettings(
    steps=300,
    learning_rate=1e-3,
    warmup_steps=40,
    precision="bf16",
    log_every=25,
    save_every=100,
)
_SPECIAL_TOKENS = 2 * 256 + 2  # bytes inside and at the end of words; start and end of text
_CAPTIONS = 5
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


def _start(sources: Sources, data: Path, out: Path, recipe: Recipe) -> ClipModel:
    """The untrained model, with its tokenizer written."""
    captions = [text for i in sources.train for text in sources.pairs.captions[i]]
    words = [*sources.names.names, *sources.tables.names, *sources.nouns.names]
    words += [*PROMPTS, *DEFAULT_TEMPLATES, *TABLE, *TABLE.values()]
    merges = select_merges(dict.fromkeys(captions, _RARE) | dict.fromkeys(words, 1))
    write_merges(out / MERGES, merges)
    config = tiny_config(_SPECIAL_TOKENS + len(merges))
    model = build_start(config, vit=vit_file(data), seed=recipe.seed)
    return ClipModel(model=model, config=config, name="atas-tiny", tokenizer_file=out / MERGES)


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
        names = sources.pairs.names
        self._held_out = sources.pairs.subset([names[i] for i in sources.held_out])

    def __call__(self, step: int) -> None:
        """Write the model as it is after `step` steps."""
        metrics = measure_retrieval(self.clip, self._held_out)
        _note(f"held-out images: {metrics}")
        write_model(self.out, self.clip, record=self._record(step, metrics))

    def _record(self, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Content of training.json."""
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
                "held_out_sha256": names_hash(self._held_out.names),
                "names": "ImageNet class names; LVIS and Objects365 names with the embeddings of "
                "OpenAI CLIP ViT-B/32 published by Detic",
            },
            "metrics": dict(metrics),
        }


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _nothing(_: int) -> None:
    """Do nothing at a checkpoint."""


if __name__ == "__main__":
    main()

"""Train `atas-tiny`, the small CLIP that ships with the package.

    python -m atas_deploy.training.atas_tiny --data DIR --out DIR

DIR of the data holds `flickr8k/` (images_224.tar, captions.csv), `vit_tiny/` and
`text_embeddings/`. The work is done in pieces, each in a folder of its own below OUT, and the
command goes on where it was stopped:

1. cache/      features of the frozen ImageNet tower
2. text/       the image tower is locked; the text tower and both projections learn from captions
3. contrast/   the text tower is locked; the image tower learns from captions and their nouns
4. base/       the model so far: contrastive training only
5. atas-tiny/  ATAS from it, on the images alone: what `atas-deploy train` does by default

The images that are held out are in none of them.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from atas_deploy import __version__
from atas_deploy.clip.folder import write_model
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.background import TABLE
from atas_deploy.core.bundle import MERGES
from atas_deploy.core.errors import AtasError
from atas_deploy.core.templates import DEFAULT_TEMPLATES
from atas_deploy.training.checkpoint import CHECKPOINT, make_folder
from atas_deploy.training.loop import Hooks, LoopSettings, Objective, run
from atas_deploy.training.resolve import Given, resolve
from atas_deploy.training.tiny.contrast_phase import (
    ContrastPhase,
    ContrastPhaseData,
    ContrastPhaseSettings,
)
from atas_deploy.training.tiny.embed import encode, encode_names, measure_retrieval
from atas_deploy.training.tiny.features import whole_features
from atas_deploy.training.tiny.sources import Sources, read_sources, vit_file
from atas_deploy.training.tiny.split import names_hash, write_training_images
from atas_deploy.training.tiny.start import build_start, select_merges, tiny_config, write_merges
from atas_deploy.training.tiny.text_phase import TextPhase, TextPhaseData, TextPhaseSettings
from atas_deploy.training.tiny.words import PROMPTS
from atas_deploy.training.train import train

NAME, BASE = "atas-tiny", "base"
READOUT = "sclip"
SHORT_SIDE = 384
LICENSE = "LicenseRef-atas-tiny-weights"
TEXT_LOOP = LoopSettings(
    steps=600, learning_rate=1e-3, warmup_steps=50, precision="bf16", log_every=50
)
CONTRAST_LOOP = LoopSettings(
    steps=300,
    learning_rate=5e-4,
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
    """Settings of the pieces that learn from captions; ATAS has its defaults.

    Attributes:
        seed: seed of everything.
        text_loop: how the first phase is optimised.
        text: its objective.
        contrast_loop: how the second phase is optimised.
        contrast: its objective.
    """

    seed: int = 0
    text_loop: LoopSettings = field(default_factory=lambda: TEXT_LOOP)
    text: TextPhaseSettings = field(default_factory=TextPhaseSettings)
    contrast_loop: LoopSettings = field(default_factory=lambda: CONTRAST_LOOP)
    contrast: ContrastPhaseSettings = field(
        default_factory=lambda: ContrastPhaseSettings(readout=READOUT)
    )


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train atas-tiny.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--text-steps", type=int, help="instead of the recipe's number")
    parser.add_argument("--contrast-steps", type=int, help="instead of the recipe's number")
    parser.add_argument("--atas-steps", type=int, help="instead of the default's number")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe()
    if args.text_steps:
        recipe = replace(recipe, text_loop=replace(recipe.text_loop, steps=args.text_steps))
    if args.contrast_steps:
        steps = args.contrast_steps
        recipe = replace(recipe, contrast_loop=replace(recipe.contrast_loop, steps=steps))
    try:
        if train_base(args.data, args.out, recipe):
            distil(args.data, args.out, seed=recipe.seed, steps=args.atas_steps)
    except AtasError as exc:
        sys.exit(f"Error: {exc}")


def train_base(data: Path, out: Path, recipe: Recipe) -> bool:
    """Run the pieces of contrastive training that are not done yet.

    Args:
        data: folder of the data.
        out: folder of the pieces.
        recipe: the settings.

    Returns:
        Whether they are done now; False after a signal.

    Raises:
        InputError: the data are incomplete.
        NonFiniteLossError: a phase diverged.
    """
    make_folder(out)
    sources = read_sources(data)
    clip = _start(sources, data, out, recipe)
    vit = DenseViT(clip.model.visual)
    whole = whole_features(vit, sources.pairs, cache=make_folder(out / "cache"), note=_note)
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
        return False
    phase = ContrastPhase(clip, _contrast_data(clip, sources), recipe.contrast)
    save = _Saver(clip, sources, make_folder(out / BASE), recipe)
    return _run_piece(phase, recipe.contrast_loop, out / "contrast", save=save)


def distil(data: Path, out: Path, *, seed: int, steps: int | None = None) -> None:
    """ATAS from the base, as `atas-deploy train --images … --model OUT/base` does it.

    Args:
        data: folder of the data.
        out: folder of the pieces.
        seed: seed of everything.
        steps: optimizer steps; None = as many as are default.
    """
    archive = data / "flickr8k" / "images_224.tar"
    images = write_training_images(archive, out / "flickr8k-train.tar")
    said = {"images": (str(images),), "model": str(out / BASE), "seed": seed, "precision": "bf16"}
    folder = out / NAME
    hooks = Hooks(on_log=lambda row: _note(f"{NAME}: {dict(row)}"))
    resume = (folder / CHECKPOINT).exists()
    run = resolve(Given(said | ({"max_steps": steps} if steps else {})))
    train(run, folder=folder, resume=resume, hooks=hooks, tell=_note)


def _start(sources: Sources, data: Path, out: Path, recipe: Recipe) -> ClipModel:
    """The untrained model, with its tokenizer written."""
    captions = [text for i in sources.train for text in sources.pairs.captions[i]]
    words = [*sources.names.names, *sources.tables.names, *sources.nouns.names]
    words += [*PROMPTS, *DEFAULT_TEMPLATES, *TABLE, *TABLE.values()]
    merges = select_merges(dict.fromkeys(captions, _RARE) | dict.fromkeys(words, 1))
    write_merges(out / MERGES, merges)
    config = tiny_config(_SPECIAL_TOKENS + len(merges))
    model = build_start(config, vit=vit_file(data), seed=recipe.seed)
    return ClipModel(model=model, config=config, name=NAME, tokenizer_file=out / MERGES)


def _contrast_data(clip: ClipModel, sources: Sources) -> ContrastPhaseData:
    """The second phase's targets: texts in the shared space of the first."""
    train = sources.train
    pairs = sources.pairs.subset([sources.pairs.names[i] for i in train])
    texts = [(captions * _CAPTIONS)[:_CAPTIONS] for captions in pairs.captions]
    with torch.autocast("cpu", torch.bfloat16):  # thrice as fast, and these are but targets
        captions = encode(clip, [text for five in texts for text in five])
        nouns = encode_names(clip, sources.nouns.names)
    return ContrastPhaseData(
        pairs=pairs,
        captions=captions.reshape(len(train), _CAPTIONS, -1),
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
    """Measures and writes the folder of the base at a checkpoint of the second phase."""

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
            "name": BASE,
            "architecture": "ViT-Ti/16, text 3x256",
            "readout": READOUT,
            "short_side": SHORT_SIDE,
            "license": LICENSE,
            "method": "contrastive",
            "command": "python -m atas_deploy.training.atas_tiny",
            "version": __version__,
            "torch": torch.__version__,
            "contrast_step": step,
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

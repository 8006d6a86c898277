"""What a run trains on and with: its images, and the objective of its method."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.vit import DenseViT
from atas_deploy.core.errors import ConfigError
from atas_deploy.training.atas import AtasObjective, AtasView
from atas_deploy.training.atas_settings import AtasSettings
from atas_deploy.training.clipself import ClipSelfObjective, make_view
from atas_deploy.training.clipself_view import collate_regions
from atas_deploy.training.contrastive import ContrastiveObjective
from atas_deploy.training.distributed import Group
from atas_deploy.training.images import ImageSource, open_images
from atas_deploy.training.loader import BatchLoader, Collate, Load, stack
from atas_deploy.training.objective import Objective
from atas_deploy.training.options import AtasOptions, ContrastiveOptions, DistillOptions
from atas_deploy.training.pairs import Pairs, open_pairs
from atas_deploy.training.resolve import Run
from atas_deploy.training.teacher_cache import TeacherCache, cache_key

Data = ImageSource | Pairs


class Method(NamedTuple):
    """A method that is ready to train.

    Attributes:
        objective: what the loop optimises.
        broken: names of images that could not be decoded so far, with the reason; grows.
        close: ends what reads ahead.
    """

    objective: Objective
    broken: Mapping[str, str]
    close: Callable[[], None] = lambda: None


def open_data(run: Run) -> Data:
    """Find the images of a run, with their captions if it needs them.

    Raises:
        ConfigError: what the method needs is not given.
        InputError: they cannot be found.
    """
    options = run.options
    if not options.images:
        raise ConfigError("Got no images to train on; name a folder of them with --images.")
    if not isinstance(options, ContrastiveOptions):
        return open_images(options.images)
    if options.captions is None:
        raise ConfigError(
            "The method contrastive needs captions; name their file with --captions, or train "
            "with --method atas, which needs none."
        )
    if len(options.images) > 1:
        raise ConfigError(
            f"The method contrastive takes one folder or tar file, but --images was given "
            f"{len(options.images)} times; put all images below one folder."
        )
    return open_pairs(Path(options.images[0]), options.captions)


def open_method(run: Run, clip: ClipModel, data: Data, group: Group) -> Method:
    """Make the objective of a run.

    Args:
        run: what is settled.
        clip: the model to train, on its device.
        data: from `open_data`.
        group: the processes of the run.

    Raises:
        ConfigError: a setting does not suit the model or the data.
        InputError: proposals cannot be read.
        OutputError: the folder of the teacher's embeddings cannot be written.
    """
    options = run.options
    if options.grad_checkpointing:
        clip.model.visual.set_grad_checkpointing(True)
    if isinstance(data, Pairs):
        pairs = ContrastiveObjective(clip, data, run.settings, seed=options.seed, group=group)
        return Method(pairs, data.broken)
    open_distillation = _open_atas if isinstance(options, AtasOptions) else _open_clipself
    return open_distillation(run, clip, data, group)


def _open_atas(run: Run, clip: ClipModel, data: ImageSource, group: Group) -> Method:
    options, settings = run.options, run.settings
    assert isinstance(options, AtasOptions)
    view = atas_view(clip, settings)
    loader = _loader(options, data, view, group)
    cache = None
    if options.teacher_cache is not None:
        cache = open_cache(options, clip, data, view)
    objective = AtasObjective(
        clip,
        loader,
        settings,
        group=group,
        teacher_cache=cache,
        compile_student=options.compile,
    )
    return Method(objective, loader.broken, loader.close)


def _open_clipself(run: Run, clip: ClipModel, data: ImageSource, group: Group) -> Method:
    options = run.options
    assert isinstance(options, DistillOptions)
    view = make_view(clip, run.settings, data.names)
    loader = _loader(options, data, view, group, collate=collate_regions)
    objective = ClipSelfObjective(
        clip, loader, run.settings, group=group, compile_student=options.compile
    )
    return Method(objective, loader.broken, loader.close)


def _loader(
    options: DistillOptions,
    data: ImageSource,
    view: Load,
    group: Group,
    collate: Collate = stack,
) -> BatchLoader:
    return BatchLoader(
        data,
        view,
        collate=collate,
        batch_size=options.batch_size,
        seed=options.seed,
        workers=options.workers,
        rank=group.rank,
        world=group.world,
        max_broken=options.max_broken,
    )


def atas_view(clip: ClipModel, settings: AtasSettings) -> AtasView:
    """What is cut of an image: a square as large as teacher or cells need it."""
    trained = DenseViT(clip.model.visual).trained_size[0]
    return AtasView(
        side=max(trained, settings.size // min(settings.grids)),
        mode=str(clip.config["preprocess_cfg"]["resize_mode"]),
        scale=settings.crop_scale,
        views=settings.views,
    )


def open_cache(
    options: AtasOptions, clip: ClipModel, data: ImageSource, view: AtasView
) -> TeacherCache:
    """The teacher's embeddings of these views on disk.

    Args:
        options: of the run; its seed decides the views.
        clip: the model before training: the teacher.
        data: the images.
        view: what is cut of them.

    Raises:
        OutputError: the folder cannot be written.
    """
    assert options.teacher_cache is not None
    device, tower = next(clip.model.parameters()).device, DenseViT(clip.model.visual)
    facts = {
        "side": view.side,
        "mode": view.mode,
        "scale": view.scale,
        "seed": None if view.whole else options.seed,
        "size": tower.trained_size[0],
        "mean": clip.mean,
        "std": clip.std,
        "precision": options.precision,
        "device": device.type,
    }
    return TeacherCache(
        options.teacher_cache,
        count=len(data),
        views=view.count,
        width=tower.embed_dim,
        key=cache_key(clip.model.visual, data.names, facts),
    )

"""What a run is going to do: how large its batches are, how many steps, at which rate."""

import math
from collections.abc import Callable
from dataclasses import replace

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.loop import LoopSettings
from atas_deploy.training.methods import Data
from atas_deploy.training.options import RunOptions, rate_for
from atas_deploy.training.pairs import Pairs
from atas_deploy.training.resolve import Run

Tell = Callable[[str], None]
_FEW, _SHOWN = 50, 3


def missing_images(data: Data) -> str:
    """What of the captions cannot be used, in a sentence; empty if all can."""
    missing = data.missing if isinstance(data, Pairs) else []
    if not missing:
        return ""
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"captions without an image are left out: {', '.join(missing[:_SHOWN])}{more}"


def fit_batch(run: Run, *, count: int, world: int, tell: Tell = lambda _: None) -> Run:
    """Make the batch no larger than an epoch.

    Args:
        run: what is settled.
        count: images.
        world: processes.
        tell: told when the default is too large.

    Raises:
        ConfigError: the batch size was asked for and is too large, there are too few images, or
            the one image of a batch is to be told apart from others.
    """
    asked, most = run.options.batch_size, count // world
    if world * min(asked, most) == 1 and _contrasts(run):
        raise ConfigError(
            f"A batch has one image and there is nothing to tell it apart from ({count} in all); "
            "give more images, a larger --batch-size or, with atas, --local-form cosine."
        )
    if asked <= most:
        return run
    if "batch_size" in run.said or most == 0:
        of = f" in each of {world} processes" if world > 1 else ""
        raise ConfigError(
            f"The batch size is {asked}{of}, but there are only {count} images; give more images "
            "or a smaller --batch-size."
        )
    tell(f"batch size {most}, as there are only {count} images")
    return run.with_batch_size(most)


def _contrasts(run: Run) -> bool:
    """Whether the images of a batch are told apart."""
    return run.method == "contrastive" or getattr(run.settings, "local_form", "cosine") != "cosine"


def fit_watch(run: Run, settings: LoopSettings) -> Run:
    """Look for a collapse at the end of a run that is over before the first look."""
    batches = settings.steps * settings.accumulate
    if getattr(run.settings, "watch_every", 0) <= batches:
        return run
    return replace(run, settings=replace(run.settings, watch_every=batches))


def loop_settings(options: RunOptions, *, count: int, world: int, width: int) -> LoopSettings:
    """How the loop optimises.

    Args:
        options: of the run.
        count: images.
        world: processes.
        width: of the image tower's tokens.
    """
    images = options.batch_size * options.accumulate * world
    steps = options.max_steps or max(1, round(options.epochs * count / images))
    warmup = steps // 10 if options.warmup_steps is None else options.warmup_steps
    return LoopSettings(
        steps=steps,
        learning_rate=rate_for(options, width),
        warmup_steps=warmup,
        accumulate=options.accumulate,
        check_every=options.check_every or (0 if options.check_images is None else steps),
        precision=options.precision,
        seed=options.seed,
        log_every=options.log_every,
        save_every=options.save_every,
    )


def describe(run: Run, settings: LoopSettings, *, count: int, world: int = 1) -> str:
    """What a run is going to do, and what to ask for if that is not much.

    Args:
        run: what is settled.
        settings: how it is optimised.
        count: images.
        world: processes.
    """
    batch = run.options.batch_size * run.options.accumulate * world
    told = (
        f"{run.method} from {run.options.model}: {count} images, {settings.steps} "
        f"step{'s' * (settings.steps != 1)} of {batch}, rate {settings.learning_rate:.1e}"
    )
    if settings.steps >= _FEW or run.said & {"epochs", "max_steps"}:
        return told
    epochs = math.ceil(_FEW * batch / count)
    return f"{told}; so few change little, --epochs {epochs} makes {_FEW} of them"

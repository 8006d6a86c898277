"""The options of `export` for other consumers than our own runtime, and what it does with them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from atas_deploy.cli.trt_options import Order
    from atas_deploy.core.bundle import Bundle
    from atas_deploy.core.vocabulary import Vocabulary

Command = TypeVar("Command", bound=Callable[..., Any])
NAMES = ("form", "head", "classes", "triton", "triton_batch")
OPENCLIP = "openclip"
_OPTIONS = (
    click.option(
        "--format",
        "form",
        type=click.Choice(["bundle", OPENCLIP]),
        default="bundle",
        show_default=True,
        help="What to write: a bundle, or a folder that open_clip loads.",
    ),
    click.option(
        "--head",
        type=click.Choice(["similarity"]),
        help="Add a graph to the bundle that takes pictures and text embeddings and gives logits.",
    ),
    click.option(
        "-c",
        "--classes",
        metavar="WORDS",
        help="Words to encode for --head, as for `segment`.  [default: none]",
    ),
    click.option(
        "--triton",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write a model repository for NVIDIA's Triton Inference Server as well.",
    ),
    click.option(
        "--triton-batch",
        type=click.IntRange(min=0),
        metavar="N",
        help="Let Triton put requests together, up to N images or texts; 0 = never.  [default: 0]",
    ),
)


def consumer_options(command: Command) -> Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumers:
    """For whom a model is exported besides our own runtime.

    Attributes:
        openclip: whether a folder for open_clip is written, and no bundle.
        head: whether the bundle gets the similarity head.
        vocabulary: words that are encoded for it; None = none.
        triton: folder of a Triton repository; None = none.
        batch: most images or texts of a batch of requests; 0 = requests are not put together.
        engine: whether Triton serves the engine.
        force: whether folders of the same kind may be replaced.
    """

    openclip: bool
    head: bool
    vocabulary: "Vocabulary | None"
    triton: Path | None
    batch: int
    engine: bool
    force: bool

    def check_order(self, order: "Order | None") -> None:
        """Refuse an engine that Triton could not load before it is built.

        Raises:
            UsageError: it is of TensorRT-RTX, or without its weights.
        """
        if self.triton is None or order is None:
            return
        if order.machine.flavour.name != "tensorrt" or order.options.strip_weights:
            raise click.UsageError(
                "Triton loads engines of TensorRT (not TensorRT-RTX) with their weights; build one "
                "with the tensorrt of Triton's container, or leave --trt out to serve ONNX."
            )

    def check_places(self, out: Path) -> None:
        """Refuse folders that are in the way before an export takes its time.

        Raises:
            ConfigError: one folder lies in the other.
            OutputError: the repository's folder is in use.
        """
        from atas_deploy.core.errors import ConfigError
        from atas_deploy.export.folder import check_target
        from atas_deploy.export.triton import REPOSITORY

        if self.triton is None:
            return
        bundle, repository = out.resolve(), self.triton.resolve()
        if bundle.is_relative_to(repository) or repository.is_relative_to(bundle):
            raise ConfigError(
                f"--triton {self.triton} and the bundle {out} lie in one another; choose a folder "
                "of its own for each."
            )
        check_target(self.triton, force=self.force, kind=REPOSITORY)

    def export(self, write: Callable[[Path, bool], "Bundle"], out: Path) -> "Bundle":
        """Write a bundle, with the head if asked for.

        Args:
            write: writes a bundle; takes its folder and whether one there may be replaced.
            out: folder of the bundle.

        Raises:
            AtasError: whatever `write` raises, or `export_with_head`.
        """
        self.check_places(out)
        if not self.head:
            return write(out, self.force)
        from atas_deploy.export.with_head import export_with_head

        return export_with_head(
            lambda folder: write(folder, False),
            out,
            vocabulary=self.vocabulary,
            force=self.force,
        )

    def serve(self, bundle: "Bundle") -> list[str]:
        """Write the Triton repository, if asked for; lines that say what is in it.

        Raises:
            AtasError: as `write_repository`.
        """
        if self.triton is None:
            return []
        from atas_deploy.export.triton import write_repository

        names = write_repository(
            bundle,
            self.triton,
            max_batch_size=self.batch,
            engine=self.engine,
            force=self.force,
        )
        layout = f"batches up to {self.batch}" if self.batch else "requests as they come"
        return [f"{self.triton}: repository for Triton, {', '.join(names)}; {layout}"]


def consumers_of(options: dict[str, Any], *, trt: bool) -> Consumers:
    """Take the options of other consumers out of those of `export`.

    Raises:
        UsageError: they do not go together.
        ConfigError: the class list cannot be used.
    """
    chosen = {name: options.pop(name) for name in NAMES}
    problem = _conflict(chosen, options, trt=trt)
    if problem:
        raise click.UsageError(problem)
    return Consumers(
        openclip=chosen["form"] == OPENCLIP,
        head=chosen["head"] is not None,
        vocabulary=_vocabulary(chosen["classes"]),
        triton=chosen["triton"],
        batch=chosen["triton_batch"] or 0,
        engine=trt,
        force=options["force"],
    )


def _vocabulary(classes: str | None) -> "Vocabulary | None":
    from atas_deploy.core.vocabulary import build_vocabulary

    return None if classes is None else build_vocabulary(classes)


_NOT_OF_OPENCLIP = {
    "head": "--head",
    "classes": "--classes",
    "triton": "--triton",
    "triton_batch": "--triton-batch",
    "readout": "--readout",
    "stride": "--patch-stride",
    "attention_window": "--attention-window",
}


def _conflict(chosen: dict[str, Any], options: dict[str, Any], *, trt: bool) -> str | None:
    """Why the options cannot be used together, and the cure; None if they can."""
    if chosen["form"] == OPENCLIP:
        return _not_of_openclip(chosen | options, trt=trt)
    if chosen["head"] and trt:
        return (
            "--head similarity is an ONNX graph, and --trt builds an engine of the image encoder "
            "without it; leave one of them out."
        )
    if chosen["classes"] is not None and not chosen["head"]:
        return "--classes are words for the similarity head; add --head similarity."
    if chosen["triton_batch"] is not None and chosen["triton"] is None:
        return "--triton-batch is about a Triton repository; add --triton DIR."
    return None


def _not_of_openclip(settings: dict[str, Any], *, trt: bool) -> str | None:
    """An option that a folder for open_clip has no use for."""
    given = [option for name, option in _NOT_OF_OPENCLIP.items() if settings[name] is not None]
    given += ["--trt"] if trt else []
    if settings.get("precision") not in (None, "fp32"):
        given.insert(0, f"--precision {settings['precision']}")
    if not given:
        return None
    return (
        "--format openclip writes weights in float32 and no graphs, so it does not go with "
        f"{given[0]}; leave one of them out."
    )


def run_openclip(
    *,
    model: str,
    out: Path | None,
    photos: tuple[str, ...],
    read_photos: Callable[[tuple[str, ...]], list[Any]],
    fp16_weights: bool,
    license_id: str | None,
    force: bool,
    **_: Any,
) -> list[str]:
    """Load the model and write a folder for open_clip; lines that say what was written.

    Raises:
        AtasError: as `load_model` and `export_openclip`.
    """
    from atas_deploy.core.extra import needs_extra
    from atas_deploy.models import weights_source

    with needs_extra("export", to="Export"):
        import open_clip

        from atas_deploy.clip.weights import load_model
        from atas_deploy.export.folder import check_target
        from atas_deploy.export.openclip_format import FOLDER, export_openclip
        from atas_deploy.export.storage import round_weights
    if out:
        check_target(out, force=force, kind=FOLDER)
    loaded = load_model(weights_source(model))
    if fp16_weights:
        round_weights(loaded.model)
    out = out or Path(f"{loaded.name}-openclip")
    pictures = read_photos(photos)
    difference = export_openclip(loaded, out, force=force, photos=pictures, license_id=license_id)
    return [
        f"{out}: {loaded.name} for open_clip, weights in float32",
        f"loaded back by open_clip {open_clip.__version__}: equal weights, class token and texts "
        f"within {difference:.1e} of ours",
    ]

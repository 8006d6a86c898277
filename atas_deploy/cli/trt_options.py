"""The options of `engine` and `export --trt`, and what both do with them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from atas_deploy.cli.progress import say

if TYPE_CHECKING:
    from atas_deploy.backends.trt.builder import BuildOptions
    from atas_deploy.backends.trt.engines import EngineRecord
    from atas_deploy.backends.trt.machine import Machine
    from atas_deploy.backends.trt.profiles import Profile
    from atas_deploy.core.bundle import Bundle, Manifest

Command = TypeVar("Command", bound=Callable[..., Any])
NAMES = ("flavour", "profiles", "targets", "workspace", "builder_level", "strip_weights")
_OPTIONS = (
    click.option(
        "--flavour",
        type=click.Choice(["tensorrt", "tensorrt-rtx"]),
        help="TensorRT to build with.  [default: the one installed, tensorrt before tensorrt-rtx]",
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        metavar="SHAPES",
        help="Sizes that the engine takes: BxHxW, or LEAST:BEST:MOST; repeat.  [default: one "
        "image, up to 8, and up to 32 square crops]",
    ),
    click.option(
        "--target",
        "targets",
        multiple=True,
        metavar="CAPABILITY",
        help="Compute capability to build for, with tensorrt-rtx; repeat.  [default: the card "
        "here; without one 8.0, 8.6, 8.9, 12.0 and 12.1]",
    ),
    click.option(
        "--workspace",
        type=click.IntRange(min=1),
        metavar="MIB",
        help="Memory of the card that a kernel may work in.  [default: all]",
    ),
    click.option(
        "--builder-level",
        type=click.IntRange(0, 5),
        metavar="0-5",
        help="How long TensorRT searches for fast kernels.  [default: TensorRT's own, 3]",
    ),
    click.option(
        "--strip-weights",
        is_flag=True,
        help="Leave the weights out of the engine; they are put in when it is loaded.",
    ),
)


def trt_options(command: Command) -> Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Order:
    """An engine as it was asked for, before there is a bundle.

    Attributes:
        machine: what builds, and for which cards.
        profiles: as written; () = the default ones of the bundle.
        options: of the builder.
    """

    machine: "Machine"
    profiles: tuple[str, ...]
    options: "BuildOptions"

    def shapes(self, manifest: "Manifest", *, trained_size: int) -> tuple["Profile", ...]:
        """The profiles for a model.

        Raises:
            ConfigError: one is no profile of this model.
        """
        from atas_deploy.backends.trt.profiles import default_profiles, parse_profile

        multiple = manifest.multiple
        if self.profiles:
            return tuple(parse_profile(text, multiple=multiple) for text in self.profiles)
        return default_profiles(
            short_side=manifest.short_side, trained_size=trained_size, multiple=multiple
        )


def order_with_export(options: dict[str, Any], *, trt: bool) -> Order | None:
    """Take the options of the engine out of those of `export`; None if no engine is asked for.

    Raises:
        BackendUnavailableError, ConfigError: as `place_order`.
        UsageError: there are such options, but no --trt.
    """
    chosen = {name: options.pop(name) for name in NAMES}
    if trt:
        return place_order(**chosen)
    if any(value not in (None, (), False) for value in chosen.values()):
        raise click.UsageError("Options of the engine need --trt; add it, or leave them out.")
    return None


def place_order(
    *,
    flavour: str | None,
    profiles: Sequence[str],
    targets: Sequence[str],
    workspace: int | None,
    builder_level: int | None,
    strip_weights: bool,
) -> Order:
    """Check all that can be checked before a bundle is opened or written.

    Raises:
        BackendUnavailableError: TensorRT is missing, or the card that it needs.
        ConfigError: an option cannot be used.
    """
    from atas_deploy.backends.trt.builder import BuildOptions
    from atas_deploy.backends.trt.machine import find_machine
    from atas_deploy.backends.trt.profiles import parse_profile

    for text in profiles:
        parse_profile(text, multiple=1)
    options = BuildOptions(level=builder_level, workspace=workspace, strip_weights=strip_weights)
    machine = find_machine(flavour, targets=targets, strip_weights=strip_weights)
    return Order(machine, tuple(profiles), options)


def carry_out(order: Order, bundle: "Bundle", *, force: bool = False) -> list[str]:
    """Build the engine; return lines that say what was built, and for what.

    Raises:
        AtasError: as `build_engine`.
    """
    from atas_deploy.backends.trt.builder import build_engine, check_provable

    shapes = order.shapes(bundle.manifest, trained_size=bundle.image_size)
    check_provable(bundle, shapes)
    start = time.perf_counter()
    record, new = build_engine(
        bundle, order.machine, profiles=shapes, options=order.options, force=force, tell=say
    )
    seconds = time.perf_counter() - start
    return describe_engine(bundle, record, how=f"built in {seconds:.1f} s" if new else "was there")


def describe_engine(bundle: "Bundle", record: "EngineRecord", *, how: str) -> list[str]:
    """The engine, what it is for, and whether it was ever run: one line each."""
    from atas_deploy.backends.trt.engines import plan_path

    key = record.key
    proof = "Proven on such a card."
    if not record.proven:
        proof = (
            "Not proven: it has not been run. Its first load on such a card compares it with "
            "PyTorch's features, and refuses it if they differ."
        )
    return [
        f"{plan_path(bundle, record)}: {key.flavour} {key.version}, {key.precision}, "
        f"{record.size / 1e6:.1f} MB, {how}",
        f"For {key.cards}; sizes {', '.join(map(str, key.profiles))}.",
        proof,
    ]

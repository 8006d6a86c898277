"""Engines from the graph of a bundle, with any flavour of TensorRT.

The network is strongly typed: the arithmetic is what the graph says, in TensorRT 10, 11 and RTX.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from atas_deploy.backends.trt.batches import takes_size
from atas_deploy.backends.trt.engines import EngineRecord, building, find_engine, save_engine
from atas_deploy.backends.trt.flavour import RTX, Flavour
from atas_deploy.backends.trt.key import EngineKey, key_here
from atas_deploy.backends.trt.machine import Machine
from atas_deploy.backends.trt.network import parse_graph
from atas_deploy.backends.trt.profiles import Profile
from atas_deploy.backends.trt.stopping import held_signals, stop_when
from atas_deploy.backends.trt.timing import timing_cache, timing_file
from atas_deploy.core.bundle import IMAGE_DATA, IMAGE_ENCODER, Bundle, sha256
from atas_deploy.core.errors import BackendError, BundleError, ConfigError
from atas_deploy.core.proof import read_reference

LEVELS = range(6)
_MEGABYTE = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """How TensorRT builds.

    Attributes:
        level: from 0, fast to build, to 5, the longest search; None = TensorRT's own, 3.
        workspace: memory of the card that a kernel may work in, in MiB; None = all of it.
        strip_weights: leave the weights out of the plan; they are put in when it is loaded.

    Raises:
        ConfigError: a number that TensorRT does not take.
    """

    level: int | None = None
    workspace: int | None = None
    strip_weights: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.level is not None and self.level not in LEVELS:
            raise ConfigError(f"The builder level is {self.level}; expected 0 to {LEVELS[-1]}.")
        if self.workspace is not None and self.workspace < 1:
            raise ConfigError(f"The workspace is {self.workspace} MiB; expected 1 or more.")


def build_engine(
    bundle: Bundle,
    machine: Machine,
    *,
    profiles: Sequence[Profile],
    options: BuildOptions | None = None,
    force: bool = False,
    tell: Callable[[str], None] | None = None,
) -> tuple[EngineRecord, bool]:
    """Build an engine, or find the one that was built for the same key.

    Args:
        bundle: the model; the engine goes into its folder.
        machine: from `find_machine`.
        profiles: sizes that it takes, at least one.
        options: of the builder.
        force: build even if there is such an engine.
        tell: called with one line while another process builds for the same bundle.

    Returns:
        The record of the engine, and whether it was built now.

    Raises:
        BackendError: TensorRT cannot build it.
        BundleError: the graph is damaged, or it is no image encoder.
        OutputError: the engine cannot be written.
    """
    options = options or BuildOptions()
    _check_graph(bundle)
    key = replace(
        key_here(bundle, machine.flavour, machine.card),
        targets=machine.targets,
        profiles=tuple(profiles),
        options=asdict(options),
    )
    with building(bundle, tell):
        found = None if force else find_engine(bundle, key)
        if found:
            return found, False
        return save_engine(bundle, key, build_plan(bundle, machine, key)), True


def check_provable(bundle: Bundle, profiles: Sequence[Profile]) -> None:
    """Refuse to build what no card could prove, and so none would run.

    Raises:
        ConfigError: a profile takes none of the sizes that the bundle has PyTorch's features of.
        BundleError: the bundle has no such features.
    """
    shapes = [images.shape[:3] for images in read_reference(bundle).images]
    for profile in profiles:
        if not any(takes_size(profile, shape) for shape in shapes):
            sizes = dict.fromkeys(f"{height} x {width}" for _, height, width in shapes)
            raise ConfigError(
                f"An engine with the profile {profile} could not be proved: it takes none of the "
                f"sizes that {bundle.path} has PyTorch's features of ({', '.join(sizes)}); export "
                f"the model again with --trt and --profile {profile}, or choose another one."
            )


def build_plan(bundle: Bundle, machine: Machine, key: EngineKey) -> bytes:
    """Parse the graph, build, and return the serialised engine.

    Raises:
        BackendError: TensorRT cannot build it.
        BundleError: the graph is no image encoder of a bundle.
    """
    flavour = machine.flavour
    log = flavour.log
    log.errors.clear()
    try:
        builder = flavour.module.Builder(log)
        parsed = parse_graph(builder, bundle, flavour)
        config = configure(builder, flavour, key)
        timing: AbstractContextManager[None] = nullcontext()
        if flavour.name != RTX:
            timing = timing_cache(config, timing_file(machine))
        with timing, held_signals() as stopped:
            config.progress_monitor = stop_when(flavour.module, stopped)
            plan = builder.build_serialized_network(parsed.network, config)
    except (RuntimeError, TypeError) as exc:  # what the bindings raise where an object is null
        raise _failed(flavour, key, [*log.errors, str(exc)]) from exc
    if plan is None:
        raise _failed(flavour, key, log.errors)
    return bytes(plan)


def configure(builder: Any, flavour: Flavour, key: EngineKey) -> Any:
    """A configuration for a key.

    Raises:
        BackendError: TensorRT refuses a profile or a target.
    """
    config = builder.create_builder_config()
    for profile in key.profiles:
        if config.add_optimization_profile(make_profile(builder, profile)) < 0:
            raise BackendError(f"TensorRT refuses the profile {profile}; choose another --profile.")
    if key.targets:
        config.num_compute_capabilities = len(key.targets)
        for index, target in enumerate(key.targets):
            if not config.set_compute_capability(flavour.targets[target], index):
                raise BackendError(f"{flavour} does not build for capability {target}.")
    module, options = flavour.module, key.options
    if options["level"] is not None:
        config.builder_optimization_level = options["level"]
    if options["workspace"] is not None:
        workspace = module.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(workspace, options["workspace"] * _MEGABYTE)
    set_flags(config, module.BuilderFlag, strip_weights=options["strip_weights"])
    return config


def set_flags(config: Any, flags: Any, *, strip_weights: bool) -> None:
    """Float32 is float32; memory comes from the caller, without which nothing can be captured."""
    config.clear_flag(flags.TF32)
    if hasattr(flags, "REQUIRE_USER_ALLOCATION"):  # TensorRT-RTX; TensorRT always does so
        config.set_flag(flags.REQUIRE_USER_ALLOCATION)
    if strip_weights:
        config.set_flag(flags.STRIP_PLAN)
        config.set_flag(flags.REFIT_IDENTICAL)


def make_profile(builder: Any, profile: Profile) -> Any:
    """TensorRT's `IOptimizationProfile` of (B, H, W, 3) images."""
    made = builder.create_optimization_profile()
    bounds = profile.least, profile.best, profile.most
    made.set_shape("images", *((*bound, 3) for bound in bounds))
    return made


def _check_graph(bundle: Bundle) -> None:
    """Refuse to build from a graph that is not the one that was proved.

    Raises:
        BundleError: it has changed.
    """
    for name in (IMAGE_ENCODER, IMAGE_DATA):
        record = bundle.manifest.files.get(name)
        if record and sha256(bundle.path / name) != record.sha256:
            raise BundleError(
                f"The bundle {bundle.path} is damaged: {name} has changed since it was proved, so "
                "no engine is built from it; export or install it again."
            )


def _failed(flavour: Flavour, key: EngineKey, errors: Sequence[str]) -> BackendError:
    """What the builder logged, without where in its sources."""
    text = next((error for error in errors if error), "it gives no reason")
    reason = re.sub(r"^.*\] ", "", re.sub(r"\.? In \w+ at .*$", "", text, flags=re.S), flags=re.S)
    return BackendError(
        f"{flavour} cannot build this {key.precision} engine for {key.cards} "
        f"({reason.strip(' .')[:300]}); try another --target or --precision, a smaller --profile, "
        "or more --workspace."
    )

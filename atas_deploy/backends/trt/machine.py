"""What an engine is built with, and for which cards."""

from collections.abc import Sequence
from dataclasses import dataclass

from atas_deploy.backends.trt.cards import Card, find_card
from atas_deploy.backends.trt.flavour import FLAVOURS, RTX, Flavour, load_flavour
from atas_deploy.core.errors import BackendUnavailableError, ConfigError


@dataclass(frozen=True, slots=True)
class Machine:
    """A builder and what it builds for.

    Attributes:
        flavour: TensorRT.
        card: the card here, if the engine is for it; None = it is for `targets`.
        targets: compute capabilities; () = TensorRT builds for the card here.
    """

    flavour: Flavour
    card: Card | None
    targets: tuple[str, ...]


def find_machine(
    flavour: str | None = None, *, targets: Sequence[str] = (), strip_weights: bool = False
) -> Machine:
    """Find out what can be built here, before anything else is done.

    Args:
        flavour: "tensorrt" or "tensorrt-rtx"; None = the one that is installed, `tensorrt` first.
        targets: compute capabilities such as "8.9"; () = the card here, or, where there is none,
            all that `tensorrt-rtx` builds for by default.
        strip_weights: whether the engine is to be built without its weights.

    Raises:
        BackendUnavailableError: TensorRT is missing, or the card that it needs.
        ConfigError: no such flavour or target.
    """
    found, card = load_flavour(flavour), find_card()
    if found.name == RTX:
        return _for_rtx(found, card, targets, strip_weights=strip_weights)
    if targets:
        raise ConfigError(
            f"{found} builds engines for the card of this machine only; leave --target out, or use "
            f"--flavour {RTX}."
        )
    if card is None:
        raise BackendUnavailableError(
            f"{found} builds engines on the card that will run them, and there is none here; build "
            f'where the card is, or use --flavour {RTX} (pip install "atas-deploy[trt-rtx]").'
        )
    return Machine(found, card, ())


def _for_rtx(
    flavour: Flavour, card: Card | None, targets: Sequence[str], *, strip_weights: bool
) -> Machine:
    known = ", ".join(flavour.targets)
    if strip_weights and card is None:
        raise BackendUnavailableError(
            f"{flavour} can leave the weights out only on a machine with a card, and there is none "
            "here; build without --strip-weights."
        )
    for target in targets:
        if target not in flavour.targets:
            raise ConfigError(f'{flavour} cannot build for "{target}"; expected one of {known}.')
    if targets:
        return Machine(flavour, None, tuple(t for t in flavour.targets if t in targets))
    if card is None:
        return Machine(flavour, None, flavour.default_targets)
    if card.capability not in flavour.targets:
        raise BackendUnavailableError(
            f"{flavour} builds for cards of capability {known}, and {card.name} has "
            f"{card.capability}; use --flavour {FLAVOURS[0]} for it, or --target for other cards."
        )
    return Machine(flavour, card, (card.capability,))

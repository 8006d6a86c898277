"""What an engine was built from and for; engines are loaded for nothing else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from atas_deploy.backends.trt.cards import Card
from atas_deploy.backends.trt.flavour import Flavour
from atas_deploy.backends.trt.profiles import Profile
from atas_deploy.core.bundle import IMAGE_DATA, IMAGE_ENCODER, Bundle, sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineKey:
    """Everything that decides what an engine is, or, asked of a machine, must be.

    Attributes:
        graph: SHA-256 over the image encoder and the file of its weights, if it has one.
        flavour: "tensorrt" or "tensorrt-rtx".
        version: of the flavour.
        precision: of the graph's arithmetic.
        gpu: name of the card that it was built on; None = it was built for `targets`.
        capability: compute capability of that card.
        driver: version of that card's driver.
        targets: compute capabilities that it was built for.
        profiles: sizes that it takes; () = any, where an engine is looked for.
        options: of the builder, by name; {} = any, where an engine is looked for.
    """

    graph: str
    flavour: str
    version: str
    precision: str
    gpu: str | None = None
    capability: str | None = None
    driver: str | None = None
    targets: tuple[str, ...] = ()
    profiles: tuple[Profile, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that differ where a key does."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def cards(self) -> str:
        """The cards that the engine is for, in words."""
        if self.gpu is not None:
            return f"{self.gpu} (capability {self.capability}, driver {self.driver})"
        return f"cards of capability {', '.join(self.targets)}" if self.targets else "no card"

    def to_json(self) -> dict[str, Any]:
        """The key as plain lists, strings and numbers."""
        content = asdict(self)
        content["profiles"] = [str(profile) for profile in self.profiles]
        content["targets"] = list(self.targets)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "EngineKey":
        """Read what `to_json` gave; unknown fields are ignored.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        names = {item.name for item in fields(cls)}
        known = {name: value for name, value in content.items() if name in names}
        known["targets"] = tuple(known["targets"])
        known["profiles"] = tuple(_profile(text) for text in known["profiles"])
        return cls(**known)

    def differences(self, wanted: "EngineKey") -> list[str]:
        """What keeps an engine of this key from being used where another one is wanted, in words.

        An engine that was built for `targets` fits every card of these capabilities; one that was
        built on a card fits that card and driver. Profiles and options count only where the wanted
        key has some.
        """
        found = []
        if self.graph != wanted.graph:
            found.append("the graph has changed since")
        if self.precision != wanted.precision:
            found.append(f"its arithmetic is {self.precision}, the bundle's {wanted.precision}")
        mine, other = f"{self.flavour} {self.version}", f"{wanted.flavour} {wanted.version}"
        if mine != other:
            found.append(f"it was built with {mine}, here is {other}")
        found += self._other_card(wanted)
        if wanted.profiles and self.profiles != wanted.profiles:
            ours, theirs = (", ".join(map(str, key.profiles)) for key in (self, wanted))
            found.append(f"its profiles are {ours}, wanted are {theirs}")
        if wanted.options and self.options != wanted.options:
            found.append(f"its options are {_words(self.options)}, not {_words(wanted.options)}")
        return found

    def _other_card(self, wanted: "EngineKey") -> list[str]:
        """How the cards differ."""
        if wanted.gpu is None:
            same = (self.gpu, self.targets) == (None, wanted.targets)
            return [] if same else [f"it is for {self.cards}, wanted for {wanted.cards}"]
        if self.gpu is None:
            fits = wanted.capability in self.targets
            return [] if fits else [f"it is for {self.cards}, here is {wanted.cards}"]
        built_on, here = ((key.gpu, key.capability, key.driver) for key in (self, wanted))
        return [] if built_on == here else [f"it was built on {self.cards}, here is {wanted.cards}"]


def key_here(bundle: Bundle, flavour: Flavour, card: Card | None) -> EngineKey:
    """The key that an engine must have to run a bundle on this machine, with any profiles.

    Raises:
        BundleError: the graph cannot be read.
    """
    key = EngineKey(
        graph=graph_hash(bundle),
        flavour=flavour.name,
        version=flavour.version,
        precision=bundle.manifest.precision,
    )
    if card is None:
        return key
    return replace(key, gpu=card.name, capability=card.capability, driver=card.driver)


def graph_hash(bundle: Bundle) -> str:
    """SHA-256 over the image encoder as it lies on the disk, with the file of its weights.

    Raises:
        BundleError: a file cannot be read.
    """
    names = [name for name in (IMAGE_ENCODER, IMAGE_DATA) if name in bundle.manifest.files]
    listing = "\n".join(f"{sha256(bundle.path / name)}  {name}" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


def _profile(text: str) -> Profile:
    shapes = [tuple(int(side) for side in part.split("x")) for part in text.split(":")]
    least, best, most = (shapes * 3)[:3] if len(shapes) == 1 else shapes
    (a, b, c), (d, e, f), (g, h, i) = least, best, most
    return Profile((a, b, c), (d, e, f), (g, h, i))


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "none"

"""From what a user says, in a run file or on the command line, to the options of a run."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from atas_deploy.core.errors import ConfigError
from atas_deploy.training.config import as_kind, kinds_of, plain
from atas_deploy.training.options import OPTIONS, SETTINGS, Method, RunOptions, flag
from atas_deploy.training.presets import PRESETS

_METHOD, _PRESET = "method", "preset"


class Given(NamedTuple):
    """What one place says.

    Attributes:
        values: by name of the option; "method" and "preset" are options, too.
        file: the run file that says it; None = the command line.
    """

    values: Mapping[str, Any]
    file: Path | None = None

    def called(self, name: str) -> str:
        """An option as this place spells it."""
        return flag(name) if self.file is None else f"{name} in {self.file}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What is settled about a run before its data are opened.

    Attributes:
        method: how to train.
        options: of the run.
        settings: of the method: its dataclass.
        said: the options that were given; the others have their defaults.
    """

    method: Method
    options: RunOptions
    settings: Any
    said: frozenset[str] = frozenset()

    def with_batch_size(self, batch_size: int) -> "Run":
        """The same run with another number of images at once."""
        options = replace(self.options, batch_size=batch_size)
        settings = replace(self.settings, **_shared(options, type(self.settings)))
        return replace(self, options=options, settings=settings)

    def values(self) -> dict[str, Any]:
        """Every option by name, ready for TOML and JSON; to say them all gives the same run."""
        values: dict[str, Any] = {_METHOD: self.method}
        for part in (self.options, self.settings):
            values |= {field.name: plain(getattr(part, field.name)) for field in fields(part)}
        if values["max_steps"] is not None:
            del values["epochs"]
        return values


def resolve(*places: Given) -> Run:
    """Settle a run.

    Args:
        places: what they say, the weightiest last. A preset counts as said in its place, a little
            less than what stands beside it.

    Raises:
        ConfigError: an option is unknown or of another method, or cannot have its value.
    """
    method = _method(places)
    places = tuple(part for place in places for part in _with_preset(place, method))
    values = _values(places, method)
    options = OPTIONS[method](**_named(values, OPTIONS[method]))
    own = _named(values, SETTINGS[method])
    settings = SETTINGS[method](**own | _shared(options, SETTINGS[method]))
    return Run(method=method, options=options, settings=settings, said=frozenset(values))


def _named(values: Mapping[str, Any], part: type[Any]) -> dict[str, Any]:
    """The values that a dataclass has fields for."""
    return {field.name: values[field.name] for field in fields(part) if field.name in values}


def _shared(options: RunOptions, settings: type[Any]) -> dict[str, Any]:
    """Options of the run that are settings of the method, too."""
    return {
        field.name: getattr(options, field.name)
        for field in fields(settings)
        if hasattr(options, field.name)
    }


def _kinds(method: Method) -> dict[str, Any]:
    """Type of each option of a method."""
    parts = (OPTIONS[method], SETTINGS[method])
    return {name: kind for part in parts for name, kind in kinds_of(part).items()}


def _method(places: Iterable[Given]) -> Method:
    """The method that was said last; ATAS if none was."""
    method: Method = "atas"
    for place in places:
        if _METHOD in place.values:
            method = as_kind(place.values[_METHOD], Method, called=place.called(_METHOD))
    return method


def _values(places: Iterable[Given], method: Method) -> dict[str, Any]:
    """The options by name.

    Raises:
        ConfigError: one is unknown or of another type, or both lengths of the run are given.
    """
    kinds, values = _kinds(method), dict[str, Any]()
    for place in places:
        said = [name for name in place.values if name not in (_METHOD, _PRESET)]
        if "epochs" in said:
            if "max_steps" in said:
                raise ConfigError(
                    f"Got both {place.called('epochs')} and {place.called('max_steps')}; give one."
                )
            values.pop("max_steps", None)
        for name in said:
            if name not in kinds:
                raise _stranger(name, place, method)
            values[name] = as_kind(place.values[name], kinds[name], called=place.called(name))
            _check_finite(values[name], name, place)
    if "epochs" in values:
        values.setdefault("max_steps", None)
    return values


def _check_finite(value: Any, name: str, place: Given) -> None:
    """Refuse what is no number, and infinity where it means nothing.

    Raises:
        ConfigError: it is one of these.
    """
    means_something = name == "pooling_temperature" and value == math.inf
    if isinstance(value, float) and not math.isfinite(value) and not means_something:
        raise ConfigError(f"{place.called(name)} is {value}; give a finite number.")


def _stranger(name: str, place: Given, method: Method) -> ConfigError:
    """What to say about an option that the method has not."""
    owners = [other for other in get_args(Method) if name in _kinds(other)]
    if owners:
        methods = f"method{'s' * (len(owners) > 1)} {' and '.join(owners)}"
        return ConfigError(
            f"{place.called(name)} is an option of the {methods}, but the method is {method}; "
            "leave it out or choose another method."
        )
    near = get_close_matches(name, [_METHOD, _PRESET, *_kinds(method)], n=1)
    hint = f"did you mean {near[0]}?" if near else "leave it out."
    return ConfigError(f"{place.called(name)} is no option of a run; {hint}")


def _with_preset(place: Given, method: Method) -> tuple[Given, ...]:
    """What a place says, after what its preset stands for."""
    if _PRESET not in place.values:
        return (place,)
    if method != "atas":
        raise ConfigError(
            f"{place.called(_PRESET)} is an option of the method atas, but the method is {method}; "
            "leave it out."
        )
    choices = Literal[tuple(PRESETS)]  # type: ignore[valid-type]
    name = as_kind(place.values[_PRESET], choices, called=place.called(_PRESET))
    return Given(PRESETS[name], place.file), place

"""What is measured: the cases of a run, and the turns of those who take part in them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from atas_deploy.core.geometry import Size

OURS, PLAIN = "ours", "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the report.

    Attributes:
        model: as the user named it.
        backend: "ort" or "trt".
        device: "cpu", "cuda" or "cuda:N"; None = the backend's own.
        short_side: of the encoder's input in pixels; None = the model's own.
        size: (height, width) of the frames; None = of the user's video.
        batch_size: frames encoded at once.
        words: how many.
    """

    model: str
    backend: str
    device: str | None
    short_side: int | None
    size: Size | None
    batch_size: int
    words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Who takes turns: a case by our runtime, or what it is compared with.

    Attributes:
        kind: `OURS` or `PLAIN`.
        model: folder of the bundle.
        backend: "ort" or "trt"; "torch" for `PLAIN`.
        device: "cpu", "cuda" or "cuda:N".
        short_side: of the encoder's input in pixels.
        video: the file.
        batch_size: frames encoded at once; 1 for `PLAIN`.
        words: how many.
    """

    kind: str
    model: str
    backend: str
    device: str
    short_side: int
    video: str
    batch_size: int
    words: int

    def plain(self) -> "Contender":
        """The baseline of a case: the same model, pictures and words, one frame at a time."""
        given = asdict(self) | {"kind": PLAIN, "backend": "torch", "batch_size": 1}
        return Contender(**given)

    @property
    def texts(self) -> tuple[Any, ...]:
        """What the time of encoding its words depends on."""
        return self.kind, self.model, self.backend, self.device, self.words


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        frames: of the video, in each turn.
        rounds: turns of each contender.
        plain: whether the baseline takes part.
        adaptive: levels of `--adaptive` to try.
    """

    frames: int = 60
    rounds: int = 3
    plain: bool = True
    adaptive: tuple[float, ...] = ()


def cases_of(
    *,
    models: Sequence[str],
    backends: Sequence[str],
    device: str | None,
    short_sides: Sequence[int | None],
    sizes: Sequence[Size | None],
    batch_sizes: Sequence[int],
    words: Sequence[int],
) -> list[Case]:
    """Every combination, the last option varying first."""
    return [
        Case(
            model=model,
            backend=backend,
            device=device,
            short_side=side,
            size=size,
            batch_size=batch,
            words=count,
        )
        for model, backend, side, size, batch, count in product(
            models, backends, short_sides, sizes, batch_sizes, words
        )
    ]


def turns_of(contenders: Sequence[Contender], effort: Effort) -> Iterator[tuple[int, Contender]]:
    """The number of each turn's round, and whose it is: round by round, baselines in between."""
    order: list[Contender] = []
    for contender in contenders:
        for each in (contender, contender.plain()) if effort.plain else (contender,):
            if each not in order:
                order.append(each)
    for number in range(effort.rounds):
        for contender in order:
            yield number, contender

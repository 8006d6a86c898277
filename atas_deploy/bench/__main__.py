"""One turn of a contender, in a process of its own.

    python -m atas_deploy.bench QUESTION

The question is JSON: "contender", "frames", "labels" (a file to write labels to, or null), "cache"
(folder of text features) and "adaptive" (levels to try instead; [] = an ordinary turn). The answer,
see `atas_deploy.core.child`, is what `atas_deploy.bench.turn` measured.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atas_deploy.bench.plan import OURS, PLAIN, Contender
from atas_deploy.core.cache import VARIABLE
from atas_deploy.core.child import answer
from atas_deploy.core.errors import BackendError
from atas_deploy.core.extra import needs_extra

if TYPE_CHECKING:
    from atas_deploy.bench.turn import Runner


def main(question: str) -> None:
    """Measure and answer."""
    asked = json.loads(question)
    os.environ[VARIABLE] = asked["cache"]
    contender = Contender(**asked["contender"])

    def unexpected(reason: str) -> BackendError:
        return BackendError(f"{contender.kind} on {contender.device} failed: {reason}")

    answer(lambda: _measure(contender, asked), unexpected=unexpected)


def _measure(contender: Contender, asked: dict[str, Any]) -> dict[str, Any]:
    from atas_deploy.bench.peak import matrix_peak
    from atas_deploy.bench.turn import take_turn
    from atas_deploy.core.bundle import Bundle

    video, frames = Path(contender.video), asked["frames"]
    if asked["adaptive"]:
        return {"adaptive": _adaptive(contender, video, frames, asked["adaptive"])}
    labels = Path(asked["labels"]) if asked["labels"] else None
    found = take_turn(_open(contender), video, frames=frames, labels=labels)
    if contender.kind == PLAIN:
        return found
    precision = Bundle.open(contender.model).manifest.precision
    flops, what = matrix_peak(contender.device, precision)
    return found | {"precision": precision, "matrix_flops": flops, "matrix_product": what}


def _adaptive(
    contender: Contender, video: Path, frames: int, levels: Sequence[float]
) -> list[dict[str, Any]]:
    from atas_deploy.bench.adaptive import measure_adaptive
    from atas_deploy.bench.ours import Ours
    from atas_deploy.media.video import VideoReader

    segmenter = Ours(contender).segmenter
    with VideoReader(video, max_frames=frames) as reader:
        images = [frame.image for frame in reader]
    return [{"level": level} | measure_adaptive(segmenter, images, level=level) for level in levels]


def _open(contender: Contender) -> "Runner":
    if contender.kind == OURS:
        from atas_deploy.bench.ours import Ours

        return Ours(contender)
    with needs_extra("export", to="The plain baseline"):
        from atas_deploy.bench.plain import Plain
    return Plain(contender)


if __name__ == "__main__":
    main(*sys.argv[1:])

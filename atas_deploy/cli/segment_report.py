"""What `atas-deploy segment` says: before a run, after it, and as JSON."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from atas_deploy.cli.progress import say

if TYPE_CHECKING:
    from atas_deploy.runtime.options import JobOptions
    from atas_deploy.runtime.regions import RegionClassifier
    from atas_deploy.runtime.segment import Segmenter
    from atas_deploy.runtime.tally import Tally


def announce(segmenter: "Segmenter") -> None:
    """Say what the run works with."""
    say(headline(segmenter))
    if segmenter.preset:
        say(_settings(segmenter))
    remark_on_words(segmenter)


def headline(labeller: "Segmenter | RegionClassifier") -> str:
    """The model, where it runs, and how many words compete."""
    vocabulary, manifest = labeller.vocabulary, labeller.bundle.manifest
    return (
        f"{manifest.name} ({manifest.readout}, short side {labeller.short_side}) on "
        f"{labeller.backend.device}; {count(len(vocabulary.classes), 'class', 'classes')} "
        f"against {count(len(vocabulary.background), 'background word', 'background words')} "
        f"({vocabulary.rule})"
    )


def remark_on_words(labeller: "Segmenter | RegionClassifier") -> None:
    """Say what was made of the words that the user may not expect."""
    from atas_deploy.core.classes import list_names

    vocabulary = labeller.vocabulary
    if vocabulary.removed:
        removed = ", ".join(vocabulary.removed)
        say(f"left out of the background, as your classes cover them: {removed}")
    for name in set(list_names()) & {name.casefold() for name in vocabulary.names}:
        say(f'"{name}" is a word here; the list of that name is @{name}')
    if labeller.cache_problem:
        say(labeller.cache_problem)


def _settings(segmenter: "Segmenter") -> str:
    """The settings in use under a preset, given ones included, in one line."""
    protocol = segmenter.protocol
    row = f" for @{segmenter.row}" if segmenter.row else ""
    parts = [
        f"read-out {segmenter.bundle.manifest.readout}",
        f"short side {segmenter.short_side}",
        _describe_windows(segmenter),
        f"scale {segmenter.logit_scale:g}",
        f"templates {segmenter.templates.name}",
        f"{len(segmenter.vocabulary.queries)} words",
        f"background {segmenter.vocabulary.rule}",
        f"threshold {protocol.threshold:g}" if protocol.threshold else "no threshold",
        f"refine {protocol.refine}",
        f"denoise {protocol.denoise:g}" if protocol.denoise else "no denoising",
    ]
    return f"preset {segmenter.preset}{row}: {', '.join(parts)}"


def _describe_windows(segmenter: "Segmenter") -> str:
    windows, merge = segmenter.encoder.windows, segmenter.protocol.merge
    if windows is None or windows.side is None or windows.stride is None:
        return "whole pictures"
    pixels = segmenter.bundle.manifest.cell if merge == "features" else 1  # of a unit of windows
    side, stride = pixels * windows.side, pixels * windows.stride
    return f"windows of {side} every {stride} pixels merged as {merge}"


def conclude(tally: "Tally", out: Path) -> str:
    """The last line of a run."""
    before = f", {tally.resumed} of them before" if tally.resumed else ""
    frames = ""
    if tally.encoded < tally.frames:
        frames = f"; {tally.encoded} of {count(tally.frames, 'frame', 'frames')} encoded"
    return (
        f"{tally.inputs - tally.failed} of {count(tally.inputs, 'input', 'inputs')} segmented "
        f"into {out}{slash(out)}{before}{frames}"
    )


def remark(tally: "Tally", segmenter: "Segmenter") -> None:
    """Say in how many pictures denoising may have left no class."""
    if tally.empty and segmenter.protocol.denoise:
        say(
            f"no class in {count(tally.empty, 'picture', 'pictures')}; "
            f"a --denoise below {segmenter.protocol.denoise:g} keeps more classes"
        )


def complain(tally: "Tally", out: Path) -> None:
    """Say what failed."""
    for failure in tally.failures:
        say(f"Error: {failure['error']}")
    if more := tally.failed - len(tally.failures):
        say(f"Error: {more} more; see {out}{slash(out)}results.jsonl")


def count(number: int, one: str, many: str) -> str:
    """A number and the word that fits it."""
    return f"{number} {one if number == 1 else many}"


def slash(path: Path) -> str:
    """What a folder's name lacks to be seen as one."""
    return "" if str(path).endswith("/") else "/"


def to_json(
    tally: "Tally", segmenter: "Segmenter", options: "JobOptions", out: Path, seconds: float
) -> str:
    """The summary of `--json`."""
    from atas_deploy.runtime.derived import format_files

    summary = {
        "out": str(out),
        "complete": not tally.failed,
        **tally.counts(),
        "seconds": round(seconds, 3),
        "failures": tally.failures,
        "formats": format_files(options.formats),
        "classes": tally.classes(segmenter.vocabulary.names),
    }
    return json.dumps(summary, indent=2)

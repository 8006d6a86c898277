"""What `atas-deploy classify` says: before a run, after it, and as JSON."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from atas_deploy.cli.progress import say
from atas_deploy.cli.segment_report import count, headline, remark_on_words, slash

_BY = {"dense": "dense features", "crop": "crops", "both": "dense features and crops"}

if TYPE_CHECKING:
    from atas_deploy.media.annotations import Faults
    from atas_deploy.runtime.region_job import RegionsFrom, RegionTally
    from atas_deploy.runtime.regions import RegionClassifier


def announce(classifier: "RegionClassifier", regions_from: "RegionsFrom") -> None:
    """Say what the run works with."""
    weight = f" (crops to the power {classifier.crop_weight:g})" * (classifier.embed == "both")
    say(f"{headline(classifier)}; {_where(regions_from)}, by {_BY[classifier.embed]}{weight}")
    remark_on_words(classifier)


def _where(regions_from: "RegionsFrom") -> str:
    """Where the regions come from, in words."""
    match regions_from.settings():
        case {"kind": kind, "file": path}:
            return f"{kind} of {path}"
        case {"cells": cells}:
            return f"a grid of {cells} x {cells}"
        case _:
            return "proposals"


def complain(tally: "RegionTally") -> None:
    """Say what failed."""
    for failure in tally.failures:
        say(f"Error: {failure['error']}")
    if more := tally.failed - len(tally.failures):
        say(f"Error: {count(more, 'more input', 'more inputs')} failed")
    complain_of_faults(tally.faults)
    if tally.problem:
        say(f"Error: {tally.problem}")


def complain_of_faults(faults: "Faults") -> None:
    """Say which regions of a file were left out."""
    for sentence in faults.sentences:
        say(f"Error: {sentence}")
    if more := faults.count - len(faults.sentences):
        say(f"Error: {count(more, 'more region was', 'more regions were')} left out")


def conclude(tally: "RegionTally", out: Path) -> str:
    """The last line of a run."""
    notes = []
    if tally.background:
        some = f"{tally.background} of them " * (tally.regions > 1)
        notes.append(f"{some}background")
    if tally.without:
        notes.append(f"none in {count(tally.without, 'picture', 'pictures')}")
    aside = f" ({'; '.join(notes)})" if notes else ""
    return (
        f"{tally.inputs - tally.failed} of {count(tally.inputs, 'input', 'inputs')}: "
        f"{count(tally.regions, 'region', 'regions')} named into {out}{slash(out)}{aside}"
    )


def to_json(tally: "RegionTally", classifier: "RegionClassifier", out: Path, seconds: float) -> str:
    """The summary of `--json`."""
    summary = {
        "out": str(out),
        "complete": tally.complete,
        **tally.counts(),
        "seconds": round(seconds, 3),
        "failures": tally.failures,
        "faults": tally.faults.sentences,
        "problem": tally.problem,
        "classes": tally.classes(classifier.vocabulary.names),
    }
    return json.dumps(summary, indent=2)

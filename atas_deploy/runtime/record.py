"""run.json: everything that decides the results of a run, and what became of it."""

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from atas_deploy import __version__
from atas_deploy.core.errors import ConfigError
from atas_deploy.core.files import atomic_path
from atas_deploy.runtime.labeller import Labeller
from atas_deploy.runtime.options import JobOptions
from atas_deploy.runtime.run_files import RunFiles
from atas_deploy.runtime.segment import Segmenter
from atas_deploy.runtime.tally import Tally

Settings = dict[str, Any]


def settings_of(segmenter: Segmenter, options: JobOptions) -> Settings:
    """What decides masks and files; runs with equal settings may go on with each other."""
    settings = {
        "preset": segmenter.preset and {"name": segmenter.preset, "row": segmenter.row},
        **words_of(segmenter),
        "denoise": segmenter.protocol.denoise,
        "short_side": segmenter.short_side,
        "windows": _windows(segmenter),
        "refine": segmenter.protocol.refine,
        **options.settings(),
    }
    plain: Settings = json.loads(json.dumps(settings))  # as it will be read again
    return plain


def words_of(labeller: Labeller) -> Settings:
    """The model, the words, and how they are compared."""
    vocabulary, manifest = labeller.vocabulary, labeller.bundle.manifest
    return {
        "model": {
            "name": manifest.name,
            "readout": manifest.readout,
            "fingerprint": labeller.bundle.fingerprint,
        },
        "classes": [list(spec.synonyms) for spec in vocabulary.classes],
        "palette": {spec.name: spec.color for spec in vocabulary.classes if spec.color},
        "background": {
            "rule": vocabulary.rule,
            "words": vocabulary.background,
            "removed": vocabulary.removed,
        },
        "queries_hash": vocabulary.hash,
        "templates": asdict(labeller.templates),
        "logit_scale": labeller.logit_scale,
        "threshold": labeller.protocol.threshold,
    }


def _windows(segmenter: Segmenter) -> Settings | None:
    windows = segmenter.encoder.windows
    return None if windows is None else {"merge": segmenter.protocol.merge, **asdict(windows)}


@dataclass(slots=True)
class RunRecord:
    """Writes run.json: at the start, and again at the end.

    Attributes:
        files: where it lies.
        settings: what decides the results.
        engine: what they were computed with.
        force: existing results are replaced; a run that goes on does the same.
        formats: files of formats made at the end, by format.
        complete: the run came to its end and nothing failed.
        started: when, in seconds since 1970.
    """

    files: RunFiles
    settings: Settings
    engine: Mapping[str, Any]
    force: bool = False
    formats: Mapping[str, list[str]] = field(default_factory=dict)
    complete: bool = False
    started: float = field(default_factory=time.time)

    def write(self, tally: Tally) -> None:
        """Write the file.

        Raises:
            OutputError: it cannot be written.
        """
        record = {
            "atas_deploy": __version__,
            "complete": self.complete,
            "settings": self.settings,
            "engine": self.engine,
            "force": self.force,
            "process": {"pid": os.getpid(), "host": platform.node()},
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started, 3),
            "counts": tally.counts(),
            "failures": tally.failures,
            "formats": self.formats,
        }
        with atomic_path(self.files.run) as part:
            part.write_bytes((_text(record) + "\n").encode(errors="backslashreplace"))


def _text(value: object, indent: str = "") -> str:
    """JSON with a line for each key and for each object in a list; words stay on one line."""
    inner = f"{indent}  "
    if isinstance(value, Mapping) and value:
        rows = [f"{inner}{json.dumps(key)}: {_text(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        rows = [f"{inner}{json.dumps(item, ensure_ascii=False)}" for item in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def check_same(settings: Settings, files: RunFiles) -> Mapping[str, Any]:
    """Return the record of an earlier run.

    Raises:
        ConfigError: it is missing, or was made with other settings.
    """
    try:
        record: dict[str, Any] = json.loads(files.run.read_bytes())
        earlier = record["settings"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(
            f"{files.run}, which tells the settings of the earlier run, cannot be read; choose "
            "another folder with --out, or start anew with --force."
        ) from exc
    for what, there, now in _differences(earlier, settings):
        raise ConfigError(
            f"The earlier run in {files.folder} had another {what} ({_short(there)} there, "
            f"{_short(now)} now); use the same, choose another folder with --out, or start anew "
            "with --force."
        )
    return record


def _differences(
    there: Mapping[str, Any], now: Mapping[str, Any], within: str = ""
) -> Iterator[tuple[str, object, object]]:
    """Settings that differ, in words, with both values."""
    for key in {**now, **there}:
        name, old, new = f"{within}{key.replace('_', ' ')}", there.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{name} ")
        elif old != new:
            yield name, old, new


def _short(value: object) -> str:
    text = _told(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _told(value: object) -> str:
    """A value as people write it: "dog|puppy, grass" for a list of classes."""
    if value in (None, "", [], {}):
        return "none"
    match value:
        case bool():
            return "on" if value else "off"
        case dict():
            given = {key: item for key, item in value.items() if item not in (None, "")}
            return ", ".join(
                item if key == "name" else f"{key} {_told(item)}" for key, item in given.items()
            )
        case list():
            return ", ".join(
                "|".join(map(str, item)) if isinstance(item, list) else str(item) for item in value
            )
        case _:
            return str(value)

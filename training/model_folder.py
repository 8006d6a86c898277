"""The model folder that a run leaves: weights, where they come from, and what is known of them."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from atas_deploy import __version__
from atas_deploy.clip.folder import copy_texts, write_model, write_record
from atas_deploy.clip.manifest import encoder_settings
from atas_deploy.clip.model import ClipModel
from atas_deploy.clip.weights import TRAINING_RECORD
from atas_deploy.core.bundle import LICENSE_TEXTS
from atas_deploy.core.errors import CheckpointError
from atas_deploy.evaluation.compare import Comparison
from atas_deploy.training.check import check_facts
from atas_deploy.training.ensemble import ensemble, tower_weights
from atas_deploy.training.loop_settings import LoopSettings
from atas_deploy.training.methods import Data
from atas_deploy.training.options import AS_TRAINED, OF_THE_START
from atas_deploy.training.pairs import Pairs
from atas_deploy.training.resolve import Run

_INHERITED = ("architecture", "license", "short_side", "stride", "attention_window")


class ModelFolder:
    """Writes the model of a run.

    Args:
        folder: an existing folder.
        clip: the model that is trained, as it starts.
        run: what is settled about the run.
        loop: how it is optimised.
        data: what it is trained on.
        broken: names of images that cannot be decoded, with the reason; may grow.
        resume: the run goes on: what its record says of earlier steps stays true.

    Attributes:
        changes: the last check against the start, by read-out, if this process made one.
    """

    def __init__(
        self,
        folder: Path,
        clip: ClipModel,
        run: Run,
        *,
        loop: LoopSettings,
        data: Data,
        broken: Mapping[str, str],
        resume: bool = False,
    ) -> None:
        self.folder, self.clip, self.run, self._loop = folder, clip, run, loop
        self.changes: Mapping[str, Comparison] = {}
        self._facts, self._broken = data_facts(data), broken
        before = _read_record(folder) if resume else {}
        self._broken_before = _unreadable(before)
        self._check = before.get("check") if self._is_read_as(before) else None
        kept = run.options.alpha < 1
        self._teacher = tower_weights(clip.model.state_dict()) if kept else {}

    @property
    def readout(self) -> str:
        """How the model that is written will be read, if nothing else is asked for."""
        asked = self.run.options.record_readout
        if asked == AS_TRAINED:
            asked = getattr(self.run.settings, "readout", OF_THE_START)
        return encoder_settings(self.clip)["readout"] if asked == OF_THE_START else asked

    def weights(self) -> dict[str, Tensor]:
        """What is written: the student, or a point between teacher and student; on the CPU."""
        state = self.clip.model.state_dict()
        return ensemble(state, self._teacher, alpha=self.run.options.alpha)

    def write(self, step: int) -> None:
        """Write weights, configuration, tokenizer, licence texts and training.json.

        Args:
            step: steps taken.

        Raises:
            OutputError: a file cannot be written.
        """
        copy_texts(self.clip.folder, self.folder, LICENSE_TEXTS)  # they bind what comes out, too
        write_model(self.folder, self.clip, record=self._record(step), state=self.weights())

    def note_check(self, changes: Mapping[str, Comparison], *, step: int) -> None:
        """Record a check against the start, by read-out, after so many steps."""
        self.changes, self._check = changes, check_facts(changes, step=step)

    def add_broken(self, names: Iterable[str]) -> None:
        """Add images that other processes could not decode to the record that is written.

        Raises:
            OutputError: it cannot be written.
        """
        self._broken_before |= set(names)
        write_record(self.folder, {**_read_record(self.folder), "data": self._data()})

    def _is_read_as(self, record: Mapping[str, Any]) -> bool:
        """Whether the model of a record is mixed and read as this one, so that its check holds."""
        options = record.get("options")
        mixed = isinstance(options, dict) and options.get("alpha") == self.run.options.alpha
        return mixed and record.get("readout") == self.readout

    def _data(self) -> dict[str, Any]:
        return {**self._facts, "unreadable": sorted({*self._broken, *self._broken_before})}

    def _record(self, step: int) -> dict[str, Any]:
        """Content of training.json."""
        clip = self.clip
        record = {
            "name": self.folder.resolve().name,
            **{key: clip.record[key] for key in _INHERITED if clip.record.get(key) is not None},
            "readout": self.readout,
            "method": self.run.method,
            "version": __version__,
            "torch": torch.__version__,
            "step": step,
            "steps": self._loop.steps,
            "learning_rate": self._loop.learning_rate,
            "options": {name: _finite(value) for name, value in self.run.values().items()},
            "start": _flat({"name": clip.name, **clip.record}),
            "data": self._data(),
        }
        return record | ({"check": self._check} if self._check else {})


def _read_record(folder: Path) -> dict[str, Any]:
    """Content of training.json; {} if it cannot be read."""
    try:
        record = json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _unreadable(record: Mapping[str, Any]) -> set[str]:
    """Images that a record says could not be decoded."""
    data = record.get("data")
    names = data.get("unreadable") if isinstance(data, dict) else None
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A model's record with its provenance, which may be the record itself, said once."""
    own = {key: value for key, value in record.items() if key != "provenance"}
    return {**record.get("provenance", {}), **own}


def _finite(value: Any) -> Any:
    """What JSON can say: infinity only as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def data_facts(data: Data) -> dict[str, Any]:
    """What training.json says about the data before they are read."""
    facts: dict[str, Any] = {"images": len(data), "names_sha256": names_hash(data)}
    if isinstance(data, Pairs):
        facts["captions"] = sum(len(texts) for texts in data.captions)
        facts["captions_without_image"] = len(data.missing)
    return facts


def check_data(folder: Path, data: Data) -> None:
    """Refuse to go on with other images than those that a run began with.

    Raises:
        CheckpointError: they are others, or in another order.
    """
    try:
        facts = _read_record(folder)["data"]
        before = facts["images"], facts["names_sha256"]
    except (KeyError, TypeError):
        return  # of an older version; the checkpoint is what counts
    if before != (len(data), names_hash(data)):
        raise CheckpointError(
            f"The run in {folder} was started with other images ({before[0]}, now there are "
            f"{len(data)}); name the same, or start a new run in another folder with --out."
        )


def names_hash(data: Data) -> str:
    """SHA-256 of the file names of all images, without their folders, one a line."""
    digest = hashlib.sha256()
    for name in data.names:
        digest.update(os.fsencode(PurePath(name).name) + b"\n")
    return digest.hexdigest()

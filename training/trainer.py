"""Optimizer, counters and files of one run."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atas_deploy.core.errors import CheckpointError
from atas_deploy.training.checkpoint import append_log, save_checkpoint
from atas_deploy.training.distributed import Group, losing_others
from atas_deploy.training.log_rows import LogRows
from atas_deploy.training.loop_settings import Hooks, LoopSettings
from atas_deploy.training.non_finite import BatchResult, check_finite
from atas_deploy.training.objective import Losses, Objective
from atas_deploy.training.schedule import learning_rate


class Trainer:
    """One process's part of a run.

    Args:
        objective: the method.
        settings: how to optimise.
        folder: where checkpoint and log go.
        hooks: what to call on the way.
        group: all processes of the run.

    Attributes:
        step: steps taken.
        last_row: the last log row.
    """

    def __init__(
        self,
        objective: Objective,
        settings: LoopSettings,
        *,
        folder: Path,
        hooks: Hooks,
        group: Group,
    ) -> None:
        self.objective, self.settings, self.folder = objective, settings, folder
        self.hooks, self.group = hooks, group
        groups = objective.groups()
        self.parameters = [p for g in groups for p in g["params"]]
        self.device = self.parameters[0].device
        self.optimizer = torch.optim.AdamW(
            groups,  # type: ignore[arg-type]  # TypedDicts are dicts
            lr=settings.learning_rate,
            betas=(0.9, settings.beta2),
            eps=1e-6,
            fused=self.device.type == "cuda" or None,
        )
        self.step = self._saved_at = self._told_at = self._logged_at = 0
        self.last_row: dict[str, float] = {}
        self._rate = 0.0
        self._rows = LogRows()

    def advance(self) -> None:
        """Take one step; check, log and save where due.

        Raises:
            NonFiniteLossError: a loss or the gradient became NaN or infinite in any process.
            TrainingError: another process has ended.
        """
        self._set_rates()
        self._descend()
        self.step += 1
        if self.group.rank == 0:
            self.hooks.on_step()
        last, checks = self.step == self.settings.steps, self._is_check_due()
        if last or checks or self.step % self.settings.log_every == 0:
            self._log(checks=checks)
        if self.step % self.settings.save_every == 0:
            with self._rows.aside():
                self.save()

    def finish(self) -> None:
        """Log the steps since the last row, and save; nothing happens if that is done."""
        if self.step != self._logged_at:
            self._log(checks=False)
        self.save()

    def save(self) -> None:
        """Write a checkpoint unless this step has one, and tell the hook unless it knows this step.

        All processes wait for it. A run that goes on has a checkpoint that its hook was not told
        of: it may save the model otherwise than before, or not have come to it.
        """
        if self.group.rank == 0:
            if self.step != self._saved_at:
                save_checkpoint(self.folder, self._state())
            if self.step != self._told_at:
                self.hooks.on_save(self.step)
        self._saved_at = self._told_at = self.step
        self.group.wait()

    def _state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {
            "step": self.step,
            "world": self.group.world,
            "settings": asdict(self.settings),
            "model": self.objective.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: it belongs to another model, other settings or another number of
                processes.
        """
        if changed := self._changes(state):
            raise CheckpointError(
                f"The run was started with another {', '.join(changed)}; resume it with the same "
                "options, or start a new one in another folder."
            )
        try:
            self.objective.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as exc:
            raise CheckpointError(
                f"The checkpoint in {self.folder} does not fit the model; resume with the same "
                "model and options."
            ) from exc
        self.step = self._saved_at = self._logged_at = state["step"]

    def _changes(self, state: Mapping[str, Any]) -> list[str]:
        """What a resumed run would do otherwise; settings that a state lacks are the defaults."""
        defaults = {field.name: field.default for field in fields(LoopSettings)}
        before = {**defaults, **state["settings"]}
        own = asdict(self.settings)
        changed = [k for k, v in own.items() if not k.endswith("_every") and before[k] != v]
        others = state.get("world", 1) != self.group.world
        return changed + ["number of processes"] * others

    def _set_rates(self) -> None:
        self._rate = learning_rate(
            self.step,
            peak=self.settings.learning_rate,
            warmup_steps=self.settings.warmup_steps,
            total_steps=self.settings.steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate * group["scale"]

    def _descend(self) -> None:
        """Add up the gradients of the step's batches and follow their mean."""
        self.optimizer.zero_grad(set_to_none=True)
        with losing_others():
            pairs = [self._backward(part) for part in range(self.settings.accumulate)]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip)
        values, gradient_norm = _numbers([losses for losses, _ in pairs], norm)
        batches = [BatchResult(v, files) for v, (_, files) in zip(values, pairs, strict=True)]
        check_finite(
            batches,
            gradient_norm,
            step=self.step + 1,
            cure=self._cure(),
            group=self.group,
        )
        self.optimizer.step()
        self.objective.after_step()
        for batch in batches:
            self._rows.add(batch.losses, images=len(batch.files))

    def _backward(self, part: int) -> tuple[Losses, list[str]]:
        """Gradients of one batch of the step; its losses and files."""
        count, seed = self.settings.accumulate, self.settings.seed
        batch = self.step * count + part
        # Dropout, if a model has any, differs between processes.
        torch.manual_seed((seed << 32) + batch * self.group.world + self.group.rank)
        rng = np.random.default_rng((seed, batch))
        bf16 = self.settings.precision == "bf16"
        with self.objective.no_sync() if part < count - 1 else nullcontext():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                losses = self.objective.losses(batch, rng)
            (losses["loss"] / count).backward()  # type: ignore[no-untyped-call]
        return {k: v.detach() for k, v in losses.items()}, list(self.objective.batch_names())

    def _cure(self) -> str:
        """What helps a run that diverged; to go on would take the same steps."""
        other = " or --precision fp32" if self.settings.precision != "fp32" else ""
        last = f"the last checkpoint, step {self._saved_at} in {self.folder}, stays"
        kept = last if self._saved_at else "no checkpoint has been saved"
        return f"start a new run with a lower --lr{other} and another --out; {kept}"

    def _is_check_due(self) -> bool:
        every = self.settings.check_every
        return every > 0 and (self.step % every == 0 or self.step == self.settings.steps)

    def _log(self, *, checks: bool) -> None:
        """Write the mean losses since the last row, and what a check finds."""
        row = {"step": self.step, "lr": self._rate, **self._rows.take(self.group)}
        with self._rows.aside():
            if self.group.rank == 0:
                row |= self._check() if checks else {}
                append_log(self.folder, row)
                self.hooks.on_log(row)
            self.group.wait()
        self.last_row, self._logged_at = row, self.step

    def _check(self) -> Mapping[str, float]:
        """Values of a check of the model as it is now."""
        self.objective.model.eval()
        try:
            return self.hooks.on_check(self.step)
        finally:
            self.objective.model.train()


def _numbers(losses: list[Losses], norm: Tensor) -> tuple[list[dict[str, float]], float]:
    """Losses and the gradient's norm as numbers, fetched from the device at once."""
    flat = [value for part in losses for value in part.values()]
    numbers = iter(torch.stack([v.float().to(norm.device) for v in (*flat, norm)]).tolist())
    return [{name: next(numbers) for name in part} for part in losses], next(numbers)

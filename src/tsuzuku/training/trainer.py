"""The training loop."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tsuzuku.core import retention
from tsuzuku.core.errors import DiskFull, TsuzukuError
from tsuzuku.core.settings import render
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.checkpoints import (
    RESERVE,
    CheckpointWriter,
    Save,
    bytes_needed,
    require_room,
)
from tsuzuku.training.data import BatchLoader, EpochSampler, to_device
from tsuzuku.training.plugins import PluginError
from tsuzuku.training.randomness import mixed, position_seed, seed_all
from tsuzuku.training.results import Averages, loss_and_metrics, what_forward_gave
from tsuzuku.training.state import TrainingState

ATTEMPTS = 3
"""How often a save is tried before a broken disk ends the training."""

Outcome = Literal["completed", "stopped"]


class NonFiniteLoss(TsuzukuError):
    """The loss or the gradients became NaN or infinite."""

    code = "non_finite"


class Report(Protocol):
    """Where a training says what happens."""

    def event(self, kind: Any, payload: dict[str, Any]) -> None: ...
    def say(self, message: str, /, level: str = "info", **values: Any) -> None: ...


@dataclass
class Trainer:
    """One attempt: trains a state to its last epoch, or until it is asked to stop."""

    state: TrainingState
    run: RunDir
    loader: BatchLoader
    train_sampler: EpochSampler
    validation_sampler: EpochSampler | None
    writer: CheckpointWriter
    report: Report
    stop_requested: Callable[[], bool]

    def __post_init__(self) -> None:
        s = self.state
        self.settings = s.settings.training
        self.policy = self.settings.checkpoint
        self.forward: Callable[[Any], Any] = s.model
        if self.settings.compile:
            self.forward = torch.compile(s.model)  # pyright: ignore[reportUnknownMemberType]
        self.on_cpu = s.device.type == "cpu"
        self.grad_norm: torch.Tensor | None = None
        self.last_saved: tuple[int, int] = (-1, -1)
        self.saved_at = time.monotonic()
        self.reported_at = time.perf_counter()
        self.reported_batches = s.batches
        self.loss_sum = _zero(s)

    def train(self) -> Outcome:
        """Train; every checkpoint that is due is durable when this returns."""
        s = self.state
        while s.epoch < self.settings.num_epochs and not self._early_stop():
            if not self._train_epoch() or not self._validate():
                self._save(stopping=True)
                self.writer.wait()
                return "stopped"
            self._finish_epoch()
            if self.stop_requested() and s.epoch < self.settings.num_epochs:
                self._save(stopping=True)
                self.writer.wait()
                return "stopped"
        self.writer.wait()
        return "completed"

    def _train_epoch(self) -> bool:
        """Train what is left of the epoch; False if it was asked to stop before the end."""
        s, settings = self.state, self.settings
        s.model.train()
        batch_count = len(self.train_sampler)
        self.train_sampler.seek(s.epoch, s.batches)
        self.reported_at, self.reported_batches = time.perf_counter(), s.batches
        self.loss_sum = _zero(s)
        s.optimizer.zero_grad(set_to_none=True)
        epoch_seed = position_seed(settings.seed, "forward", s.epoch)
        for batch in self.loader.batches(self.train_sampler):
            seed_all(mixed(epoch_seed, s.batches), s.device)
            loss, extra = self._forward(to_device(batch, s.device))
            self._backward(loss, batch_count)
            s.batches += 1
            if s.batches % settings.accumulate_grad_batches and s.batches < batch_count:
                continue
            self._step()
            s.global_step += 1
            if s.global_step % settings.log_interval == 0:
                self._report_progress(loss, extra)
            if self.writer.failed or self._checkpoint_is_due():
                self._save()
            if self.stop_requested():
                return False
        return True

    def _forward(self, batch: Any) -> tuple[torch.Tensor, Mapping[str, Any]]:
        with self._autocast():
            result = self.forward(batch)
        if isinstance(result, torch.Tensor):
            loss, extra = result, _NOTHING
        else:
            loss, extra = loss_and_metrics(result, self.state.settings.model_name)
        if loss.numel() != 1 or not loss.requires_grad:
            raise PluginError(what_forward_gave(loss, self.state.settings.model_name))
        if self.on_cpu:
            # 0.4 µs here; on a device it would wait for the step, so there it is looked at later
            value = loss.item()
            self.state.loss_sum += value
            if not math.isfinite(value):
                self._refuse_non_finite("loss", value)
        else:
            self.loss_sum += loss.detach()
        return loss, extra

    def _backward(self, loss: torch.Tensor, batch_count: int) -> None:
        s, group = self.state, self.settings.accumulate_grad_batches
        if group > 1:
            # the last group of an epoch may be smaller
            first = s.batches - s.batches % group
            loss = loss / min(group, batch_count - first)
        if s.scaler is not None:
            loss = s.scaler.scale(loss)
        loss.backward()  # pyright: ignore[reportUnknownMemberType]

    def _step(self) -> None:
        """Clip, optimizer step, scheduler step."""
        s, limit = self.state, self.settings.grad_clip_thresh
        if limit is not None:
            if s.scaler is not None:
                s.scaler.unscale_(s.optimizer)
            self.grad_norm = torch.nn.utils.clip_grad_norm_(s.model.parameters(), limit)
            if self.on_cpu and s.scaler is None and not math.isfinite(self.grad_norm.item()):
                self._refuse_non_finite("gradient norm", self.grad_norm.item())
        if s.scaler is not None:
            s.scaler.step(s.optimizer)
            s.scaler.update()
        else:
            s.optimizer.step()
        s.optimizer.zero_grad(set_to_none=True)
        if s.scheduler is not None and not isinstance(s.scheduler, ReduceLROnPlateau):
            s.scheduler.step()

    def _report_progress(self, loss: torch.Tensor, extra: Mapping[str, Any]) -> None:
        s = self.state
        self._gather_loss()
        now = time.perf_counter()
        samples = (s.batches - self.reported_batches) * self.settings.batch_size
        payload: dict[str, Any] = {
            "epoch": s.epoch + 1,
            "total_epochs": self.settings.num_epochs,
            "step": self._steps(s.batches),
            "total_steps": self._steps(len(self.train_sampler)),
            "global_step": s.global_step,
            "loss": loss.item(),
            "learning_rate": float(s.optimizer.param_groups[0]["lr"]),
            "grad_norm": None if self.grad_norm is None else self.grad_norm.item(),
            "samples_per_second": samples / max(now - self.reported_at, 1e-9),
        }
        if extra:
            payload["metrics"] = {
                k: v.item() if isinstance(v, torch.Tensor) else float(v) for k, v in extra.items()
            }
        self.report.event("progress", payload)
        self.reported_at, self.reported_batches = now, s.batches

    def _validate(self) -> bool:
        """Measure the epoch; False if it was asked to stop meanwhile (then nothing is changed)."""
        s = self.state
        self._gather_loss()
        metrics = {"train_loss": s.loss_sum / max(len(self.train_sampler), 1)}
        if self.validation_sampler is not None:
            measured = self._measure(self.validation_sampler)
            if measured is None:
                return False
            metrics |= measured
        s.metrics = metrics
        s.epoch += 1
        s.batches, s.loss_sum, self.loss_sum = 0, 0.0, _zero(s)
        return True

    def _measure(self, sampler: EpochSampler) -> dict[str, float] | None:
        s = self.state
        measure: Callable[[Any], Any] = getattr(s.model, "validate", None) or s.model
        total = Averages(s.model)
        s.model.eval()
        sampler.seek(s.epoch, 0)
        with torch.no_grad():
            for index, batch in enumerate(self.loader.batches(sampler)):
                if self.stop_requested():
                    return None
                seed_all(position_seed(self.settings.seed, "validate", s.epoch, index), s.device)
                with self._autocast():
                    result = measure(to_device(batch, s.device))
                total.add(result, sampler.size_of(index), s.settings.model_name)
        return total.means()

    def _finish_epoch(self) -> None:
        """What follows from an epoch's metrics: best, schedule, report, checkpoint."""
        s = self.state
        value = self._monitored()
        min_delta = self.settings.early_stopping.min_delta if self.settings.early_stopping else 0.0
        improved = value is not None and retention.is_better(value, s.best, self.policy.mode)
        if value is not None:
            enough = retention.is_better(value, s.best, self.policy.mode, min_delta)
            s.bad_validations = 0 if enough else s.bad_validations + 1
        if improved:
            s.best = value
        if isinstance(s.scheduler, ReduceLROnPlateau) and value is not None:
            s.scheduler.step(value)  # pyright: ignore[reportUnknownMemberType]
        self.report.event(
            "validation_result", {"epoch": s.epoch, "global_step": s.global_step, **s.metrics}
        )
        last = s.epoch if self._early_stop() else self.settings.num_epochs
        if retention.reasons_to_save(s.epoch, last, improved, self.policy) or self.stop_requested():
            self._save(is_best=improved, metrics=s.metrics, wait=s.epoch >= last)

    def _monitored(self) -> float | None:
        s, name = self.state, self.policy.monitor
        if name == "val_loss" and self.validation_sampler is None:
            name = "train_loss"
        value = s.metrics.get(name)
        if value is None and s.epoch == 1:
            self.report.say("no_monitor", level="warning", monitor=name, known=", ".join(s.metrics))
        return value

    def _early_stop(self) -> bool:
        stopping = self.settings.early_stopping
        return stopping is not None and self.state.bad_validations >= stopping.patience

    def _checkpoint_is_due(self) -> bool:
        policy = self.policy
        if policy.every_steps and self.state.global_step % policy.every_steps == 0:
            return True
        minutes = policy.every_minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def _save(
        self,
        *,
        stopping: bool = False,
        is_best: bool = False,
        metrics: dict[str, float] | None = None,
        wait: bool = False,
    ) -> None:
        """Save where the training stands; within an epoch only if no save is under way.

        When the disk is full the training pauses here until there is room, or until it is to stop.
        """
        s = self.state
        position = (s.global_step, s.epoch)
        if position == self.last_saved:
            return
        ends_epoch = metrics is not None
        if not ends_epoch and not stopping and self.writer.busy:
            self.report.say("save_skipped", level="warning", step=s.global_step)
            return
        self._gather_loss()
        template = self.policy.filename if ends_epoch else self.policy.filename_step
        names = (s.settings.model_name, s.settings.dataset_name)
        path = self.run.checkpoints / render(template, *names, s.epoch, s.global_step)
        failures = 0
        while True:
            state = s.capture(metrics or {})
            info = {k: v for k, v in state.items() if k in SMALL}
            info |= {"role": "checkpoint", "end_of_epoch": ends_epoch, "is_best": is_best}
            try:
                self.writer.wait()
                require_room(self.run.checkpoints, bytes_needed(state))
                self.writer.start(Save(path, state, info))
                if stopping or wait:
                    self.writer.wait()
                break
            except DiskFull as error:
                self._pause(error, bytes_needed(state))
            except TsuzukuError as error:
                failures += 1
                if error.code != "write_failed" or failures == ATTEMPTS:
                    raise
                # the save starts over, in a new file
                self.report.say("save_failed", "warning", error=error.detail)
        self.last_saved, self.saved_at = position, time.monotonic()

    def _pause(self, error: DiskFull, needed: int) -> None:
        """Wait until there is room for a checkpoint; raises `error` when asked to stop instead."""
        self.report.event("status", {"status": "paused", "message": error.detail})
        while shutil.disk_usage(self.run.checkpoints).free < needed + RESERVE:
            if self.stop_requested():
                raise error
            time.sleep(0.5)
        self.report.event("status", {"status": "running", "message": ""})

    def _gather_loss(self) -> None:
        """On a device: bring the epoch's sum of losses home, and look whether it is finite."""
        if self.on_cpu:
            return
        self.state.loss_sum += self.loss_sum.item()
        self.loss_sum = _zero(self.state)
        if not math.isfinite(self.state.loss_sum):
            self._refuse_non_finite("loss", self.state.loss_sum)

    def _refuse_non_finite(self, what: str, value: float) -> None:
        s = self.state
        raise NonFiniteLoss(
            f"The {what} became {value} in epoch {s.epoch + 1} at step {s.global_step + 1}; "
            "the last good checkpoint is kept.",
            "Lower training.learning_rate, or look at the data of that batch.",
        )

    def _steps(self, batches: int) -> int:
        return -(-batches // self.settings.accumulate_grad_batches)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "32":
            return nullcontext()
        dtype = torch.bfloat16 if self.settings.precision == "bf16" else torch.float16
        return torch.autocast(self.state.device.type, dtype=dtype)


_NOTHING: Mapping[str, Any] = {}

SMALL = frozenset(
    {
        "epoch",
        "global_step",
        "metrics",
        "best_val_loss",
        "config",
        "sampler_state",
        "trainer_state",
        "metadata",
    }
)
"""The parts of a checkpoint that its sidecar repeats."""


def _zero(state: TrainingState) -> torch.Tensor:
    """An accumulator for losses on the device (MPS has no float64)."""
    dtype = torch.float32 if state.device.type == "mps" else torch.float64
    return torch.zeros((), dtype=dtype, device=state.device)

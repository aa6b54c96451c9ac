"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tsuzuku.core import retention
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.training.data import BatchLoader, EpochSampler, Passes, to_device
from tsuzuku.training.distributed import Ranks, on_cpu, unused
from tsuzuku.training.optim import clip_gradients
from tsuzuku.training.plugins import PluginError
from tsuzuku.training.randomness import mixed, position_seed, seed_all
from tsuzuku.training.results import Averages, loss_and_metrics, what_forward_gave
from tsuzuku.training.saving import Report, Saving
from tsuzuku.training.state import TrainingState

Outcome = Literal["completed", "stopped"]


class NonFiniteLoss(TsuzukuError):
    """The loss or the gradients became NaN or infinite."""

    code = "non_finite"


@dataclass
class Trainer:
    """One attempt: trains a state to its last epoch, or until it is asked to stop.

    Of several ranks each has one, which goes through the same steps; `stop_requested` says the same
    to all of them, and is asked by all at the same places.
    """

    state: TrainingState
    loader: BatchLoader
    train_sampler: EpochSampler
    validation_sampler: EpochSampler | None
    saving: Saving
    report: Report
    stop_requested: Callable[[], bool]
    ranks: Ranks = field(default_factory=Ranks)

    def __post_init__(self) -> None:
        s = self.state
        self.settings = s.settings.training
        self.policy = self.settings.checkpoint
        self.alone = self.ranks.world == 1
        self.at_once = self.alone and self.settings.device_batch_size is None
        self.forward: Callable[[Any], Any] = self.ranks.wrapped(s.model)
        if self.settings.compile:
            self.forward = torch.compile(self.forward)  # pyright: ignore[reportUnknownMemberType]
        self.on_cpu = s.device.type == "cpu"
        self.parameters = list(s.model.parameters())
        self.grad_norm: torch.Tensor | None = None
        self.unused_looked_for = self.alone
        self.reported_at = time.perf_counter()
        self.reported_batches = s.batches
        self.loss_sum = _zero(s)
        self.loss: torch.Tensor | float = 0.0
        """Of the last batch, over all ranks."""

    def train(self) -> Outcome:
        """Train; every checkpoint that is due is durable when this returns."""
        s = self.state
        while s.epoch < self.settings.num_epochs and not self._early_stop():
            if not self._train_epoch() or not self._validate():
                self.saving.save(stopping=True)
                self.saving.wait()
                return "stopped"
            self._finish_epoch()
            if self.stop_requested() and s.epoch < self.settings.num_epochs:
                self.saving.save(stopping=True)
                self.saving.wait()
                return "stopped"
        self.saving.wait()
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
            seed = mixed(epoch_seed, s.batches)
            seed_all(seed if self.alone else mixed(seed, self.ranks.rank), s.device)
            if self.at_once:
                loss, extra = self._forward(to_device(batch, s.device))
                self._count(loss)
                self._backward(loss, batch_count)
            else:
                extra = self._in_passes(batch, batch_count)
            s.batches += 1
            if s.batches % settings.accumulate_grad_batches and s.batches < batch_count:
                continue
            self._step()
            s.global_step += 1
            if s.global_step % settings.log_interval == 0:
                self._report_progress(extra)
            if self.saving.is_due():
                self.saving.save()
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
        return loss, extra

    def _count(self, loss: torch.Tensor) -> None:
        """Add the loss of a batch, over all ranks, to the epoch's."""
        if self.on_cpu:
            # 0.4 µs here; on a device it would wait for the step, so there it is looked at later
            value = loss.item()
            self.state.loss_sum += value
            if not math.isfinite(value):
                self._refuse_non_finite("loss", value)
            self.loss = value
        else:
            self.loss = loss.detach()
            self.loss_sum += self.loss

    def _in_passes(self, batch: Any, batch_count: int) -> Mapping[str, Any]:
        """Train on this rank's part of a batch, in as many passes as its device needs.

        The mean over all ranks and passes, each weighted by its samples, is the mean over the
        batch: of a loss that is a mean over samples, and so of its gradients. Returns this rank's
        share of what forward said beside the loss.
        """
        s, group, sampler = self.state, self.settings.accumulate_grad_batches, self.train_sampler
        if s.batches % group == 0:
            self.ranks.share_buffers(s.model)
        step_follows = not (s.batches + 1) % group or s.batches + 1 >= batch_count
        parts: list[Any] = batch if isinstance(batch, Passes) else [batch]
        sizes, samples = sampler.pass_sizes(s.batches), sampler.size_of(s.batches)
        mine = _zero(s)
        said: dict[str, Any] = {}
        for part, size in zip(parts, sizes, strict=True):
            last, share = part is parts[-1], size / samples
            with self.ranks.accumulating(self.forward, s.model, step_follows and last):
                loss, extra = self._forward(to_device(part, s.device))
                if share:  # else it is there for the others' sake only
                    mine += loss.detach().to(mine.dtype).reshape(()) * share
                    for name, value in extra.items():
                        said[name] = said.get(name, 0.0) + value * share
                if last:
                    self.ranks.pace.batch()
                    self._count(self.ranks.total(mine))  # all see at once if it is not finite
                # torch takes the mean over the ranks
                self._backward(loss * (share * self.ranks.world), batch_count)
        return said

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
        if not self.unused_looked_for:
            self.unused_looked_for = True
            if names := unused(s.model):
                raise _not_trained(names, s.settings.model_name)
        if limit is not None:
            if s.scaler is not None:
                s.scaler.unscale_(s.optimizer)
            norm = clip_gradients(self.parameters, limit)
            if self.ranks.sharded:
                norm = cast(torch.Tensor, cast(Any, norm).full_tensor())
            self.grad_norm = norm
            if self.on_cpu and s.scaler is None and not math.isfinite(norm.item()):
                self._refuse_non_finite("gradient norm", norm.item())
        if s.scaler is not None:
            s.scaler.step(s.optimizer)
            s.scaler.update()
        else:
            s.optimizer.step()
        s.optimizer.zero_grad(set_to_none=True)
        if s.scheduler is not None and not isinstance(s.scheduler, ReduceLROnPlateau):
            s.scheduler.step()

    def _report_progress(self, extra: Mapping[str, Any]) -> None:
        s = self.state
        self.gather_loss()
        if extra and not self.alone:
            extra = self._counted_extra(extra)
        now = time.perf_counter()
        samples = (s.batches - self.reported_batches) * self.settings.batch_size
        payload: dict[str, Any] = {
            "epoch": s.epoch + 1,
            "total_epochs": self.settings.num_epochs,
            "step": self._steps(s.batches),
            "total_steps": self._steps(len(self.train_sampler)),
            "global_step": s.global_step,
            "loss": float(self.loss),
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

    def _counted_extra(self, extra: Mapping[str, Any]) -> Mapping[str, Any]:
        """The sums over all ranks of their shares."""
        names = sorted(extra)
        mine = torch.tensor([float(extra[n]) for n in names], dtype=torch.float64)
        return dict(zip(names, self.ranks.total(mine), strict=True))

    def _validate(self) -> bool:
        """Measure the epoch; False if it was asked to stop meanwhile (then nothing is changed)."""
        s = self.state
        self.gather_loss()
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
        measured: list[tuple[int, Any]] = []
        total = Averages(s.model)
        s.model.eval()
        sampler.seek(s.epoch, 0)
        with torch.no_grad():
            batches = zip(sampler.dealt(), self.loader.batches(sampler), strict=True)
            for index, batch in batches:
                if self.stop_requested():
                    return None
                seed_all(position_seed(self.settings.seed, "validate", s.epoch, index), s.device)
                with self._autocast():
                    result = measure(to_device(batch, s.device))
                if self.alone:
                    total.add(result, sampler.size_of(index), s.settings.model_name)
                else:
                    measured.append((index, on_cpu(result)))
        if not self.alone:
            # each batch once, in their order: the same sums for any number of ranks
            everything = {i: r for part in self.ranks.gathered(measured) for i, r in part}
            for index in sorted(everything):
                total.add(everything[index], sampler.size_of(index), s.settings.model_name)
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
            self.saving.save(is_best=improved, metrics=s.metrics, wait=s.epoch >= last)

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

    def gather_loss(self) -> None:
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


def _not_trained(names: list[str], model_name: str) -> PluginError:
    some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return PluginError(
        f"models/{model_name}.py: the loss does not depend on {some}; with several ranks every "
        "parameter that is trained has to take part in every step.",
        "Use them in forward, or name them in training.freeze.",
    )


def _zero(state: TrainingState) -> torch.Tensor:
    """An accumulator for losses on the device (MPS has no float64)."""
    dtype = torch.float32 if state.device.type == "mps" else torch.float64
    return torch.zeros((), dtype=dtype, device=state.device)

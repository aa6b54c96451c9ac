"""Everything that a training carries from step to step, and how it becomes a checkpoint."""

from __future__ import annotations

import platform
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from tsuzuku import __version__
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.trees import is_tree
from tsuzuku.training.inheritance import Inheritance, inherit_weights, moments_for
from tsuzuku.training.opening import check_weights
from tsuzuku.training.randomness import rng_state, set_rng_state


@dataclass
class TrainingState:
    """The training at one moment between two optimizer steps."""

    settings: RunSettings
    device: torch.device
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | ReduceLROnPlateau | None
    scaler: torch.amp.GradScaler | None
    identity: dict[str, Any] = field(default_factory=dict[str, Any])
    """`run_id`, `attempt`, `parent`, `source_sha256`, `dataset_fingerprint`, `git_commit`."""

    steps_per_epoch: int = 1
    ranks: int = 1
    """Processes that train it together."""
    sharded: bool = False
    """Whether each of them holds a part of the tensors only."""
    epoch: int = 0
    """Completed epochs."""
    batches: int = 0
    """Batches trained on in the epoch under way."""
    global_step: int = 0
    loss_sum: float = 0.0
    """Sum over the batches of the epoch under way."""
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    """What the last validation measured."""
    best: float | None = None
    bad_validations: int = 0
    """Validations in a row without a better monitored metric."""
    time_before: float = 0.0
    """Seconds of training in earlier attempts."""
    started: float = field(default_factory=time.monotonic)

    @property
    def training_time(self) -> float:
        """Seconds of training over all attempts."""
        return self.time_before + time.monotonic() - self.started

    def capture(self, metrics: dict[str, float]) -> dict[str, Any]:
        """The contents of a checkpoint. The tensors in it are the live ones."""
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "global_step": self.global_step,
            "model_state_dict": dict(self.model.state_dict()),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": self.scheduler.state_dict() if self.scheduler else None,
            "metrics": dict(metrics),
            "best_val_loss": self.best,
            "config": self.settings.model_dump(mode="json"),
            "sampler_state": {
                "epoch": self.epoch,
                "batches": self.batches,
                "seed": self.settings.training.seed,
                "batch_size": self.settings.training.batch_size,
            },
            "trainer_state": {
                "loss_sum": self.loss_sum,
                "last_metrics": dict(self.metrics),
                "bad_validations": self.bad_validations,
                "num_threads": torch.get_num_threads(),
                "steps_per_epoch": self.steps_per_epoch,
            },
            "rng_state": rng_state(self.device),
            "metadata": self._metadata(),
        }
        if self.scaler is not None:
            state["scaler_state_dict"] = self.scaler.state_dict()
        return state

    def restore(self, saved: dict[str, Any], name: str, *, same_run: bool) -> list[str]:
        """Take over a checkpoint's contents; the names of the parts that could not be.

        With `same_run` every part comes back to the bit. A branch keeps its own hyper-parameters
        and begins the epoch anew where the order of the samples is another one.
        """
        lost: list[str] = []
        check_weights(self.model, saved["model_state_dict"], name)
        self.model.load_state_dict(self._own_part(saved["model_state_dict"]))
        own_groups = [dict(g) for g in self.optimizer.param_groups]
        if not self._restore_optimizer(saved):
            lost.append("optimizer")
        if self.scaler is not None and saved.get("scaler_state_dict"):
            self.scaler.load_state_dict(saved["scaler_state_dict"])
        self.epoch = int(saved["epoch"])
        self.global_step = int(saved.get("global_step", 0))
        if same_run or self._same_measure(saved):
            self.best = saved.get("best_val_loss")
        position, trainer = section(saved, "sampler_state"), section(saved, "trainer_state")
        if same_run or self._same_order(saved):
            self.batches = int(position.get("batches", 0))
            self.loss_sum = float(trainer.get("loss_sum", 0.0))
        elif position.get("batches"):
            lost.append("position in the epoch")
        if not same_run and self.batches % self.settings.training.accumulate_grad_batches:
            # a boundary of the old accumulation that is none of the new
            self.batches, self.loss_sum = 0, 0.0
        self._restore_schedule(saved, own_groups, same_run)
        self.metrics = section(trainer, "last_metrics")
        self.bad_validations = int(trainer.get("bad_validations", 0)) if same_run else 0
        self.time_before = float(section(saved, "metadata").get("training_time", 0.0))
        if same_run:
            before = int(section(saved, "metadata").get("ranks", 1))
            if (threads := trainer.get("num_threads")) and before == self.ranks:
                # sums over another number of threads are rounded in another order
                torch.set_num_threads(int(threads))
            if saved.get("rng_state"):
                set_rng_state(saved["rng_state"], self.device)
        return lost

    def inherit(self, saved: dict[str, Any], name: str) -> Inheritance:
        """Take over the weights alone, as far as they fit: everything else begins anew.

        Raises CorruptCheckpoint if hardly any do.
        """
        old = section(saved, "config", "model")
        return inherit_weights(self.model, self._own_part(saved["model_state_dict"]), old, name)

    def _own_part(self, weights: dict[str, Any]) -> dict[str, Any]:
        if not self.sharded:
            return weights
        from tsuzuku.training.sharding import parts_of  # loads for half a second

        return parts_of(weights, self.model)

    def _restore_optimizer(self, saved: dict[str, Any]) -> bool:
        """Take over moments and steps, if they are of the same optimizer and parameters."""
        theirs = section(saved, "config", "training").get("optimizer")
        state = saved.get("optimizer_state_dict")
        if not state or theirs not in (None, self.settings.training.optimizer):
            return False
        try:
            names = [name for name, _ in self.model.named_parameters()]
            moments = moments_for(self.optimizer.state_dict(), state, names)
            if self.sharded:
                from tsuzuku.training.sharding import moments_of

                moments = moments_of(moments, self.optimizer)
            self.optimizer.load_state_dict(moments)
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def _same_data(self, saved: dict[str, Any]) -> bool:
        """Whether the samples are the same ones; their place does not count if they are known."""
        theirs, mine = section(saved, "config"), self.settings.model_dump(mode="json")
        if theirs.get("dataset_name") != mine["dataset_name"]:
            return False
        metadata = section(saved, "metadata")
        if "data_files" not in metadata:  # saved by an earlier version, or another program
            return theirs.get("dataset") == mine["dataset"]
        known = metadata.get("dataset_fingerprint")
        placeless = [
            {k: v for k, v in settings.items() if k != "path"}
            for settings in (section(theirs, "dataset"), mine["dataset"])
        ]
        return known == self.identity.get("dataset_fingerprint") and placeless[0] == placeless[1]

    def _same_measure(self, saved: dict[str, Any]) -> bool:
        """Whether the best value so far was measured as it is now."""
        theirs, mine = section(saved, "config"), self.settings.model_dump(mode="json")
        keys = ("validation_split", "limit_samples", "seed")
        old, new = section(theirs, "training"), mine["training"]
        return (
            self._same_data(saved)
            and all(old.get(k) == new[k] for k in keys)
            and all(
                section(old, "checkpoint").get(k) == new["checkpoint"][k]
                for k in ("monitor", "mode")
            )
        )

    def _same_order(self, saved: dict[str, Any]) -> bool:
        """Whether a branch sees the samples in the order of the run it came from."""
        mine = self.settings.model_dump(mode="json")
        keys = ("seed", "batch_size", "validation_split", "limit_samples")
        old = section(saved, "config", "training")
        return self._same_data(saved) and all(old.get(key) == mine["training"][key] for key in keys)

    def _same_steps(self, saved: dict[str, Any]) -> bool:
        theirs = section(saved, "config", "training").get("accumulate_grad_batches")
        return theirs == self.settings.training.accumulate_grad_batches

    def _restore_schedule(
        self, saved: dict[str, Any], own_groups: list[dict[str, Any]], same_run: bool
    ) -> None:
        schedule = saved.get("scheduler_state_dict")
        theirs = section(saved, "config", "training").get("scheduler")
        same_kind = theirs == self.settings.training.scheduler
        if same_run:
            if self.scheduler is not None and schedule:
                self.scheduler.load_state_dict(schedule)
            return
        # a branch means its own learning rate, decay and so on, not those of the restored optimizer
        for group, own in zip(self.optimizer.param_groups, own_groups, strict=True):
            group.update({k: v for k, v in own.items() if k != "params"})
        if isinstance(self.scheduler, ReduceLROnPlateau):
            return
        if self.scheduler is not None and schedule and same_kind:
            # the schedules are functions of the step: stand where this run would stand by now
            done = self.epoch * self.steps_per_epoch
            done += self.batches // self.settings.training.accumulate_grad_batches
            if self._same_order(saved) and self._same_steps(saved):
                done = int(schedule.get("last_epoch", done))
            self.scheduler.last_epoch = done - 1
            self.scheduler._step_count = done  # pyright: ignore[reportPrivateUsage]
            self.scheduler.step()

    def _metadata(self) -> dict[str, Any]:
        return {
            "timestamp": time.time(),
            "hostname": socket.gethostname(),
            "pytorch_version": torch.__version__.split("+")[0],
            "tsuzuku_version": __version__,
            "python_version": platform.python_version(),
            "device": self.device.type if self.ranks > 1 else str(self.device),
            "ranks": self.ranks,
            "model_params": sum(p.numel() for p in self.model.parameters()),
            "training_time": self.training_time,
            **self.identity,
        }


def section(tree: dict[str, Any], *path: str) -> dict[str, Any]:
    """The mapping at `path`, an empty one if there is none (in files of other programs)."""
    for key in path:
        inner = tree.get(key)
        tree = inner if is_tree(inner) else {}
    return tree

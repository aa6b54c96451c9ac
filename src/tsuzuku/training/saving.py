"""When a checkpoint is due, what is in it, and what happens where there is no room for it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from tsuzuku.core.errors import DiskFull, TsuzukuError
from tsuzuku.core.settings import render
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.checkpoints import RESERVE, CheckpointWriter, Save, bytes_needed, require_room
from tsuzuku.training.distributed import Ranks
from tsuzuku.training.state import TrainingState

ATTEMPTS = 3
"""How often a save is tried before a broken disk ends the training."""

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


class Report(Protocol):
    """Where a training says what happens."""

    def event(self, kind: Any, payload: dict[str, Any]) -> None: ...
    def say(self, message: str, /, level: str = "info", **values: Any) -> None: ...


@dataclass
class Saving:
    """Saves where a training stands. Of several ranks only the first one's does anything, unless
    each writes its part: then all do the same at the same places."""

    state: TrainingState
    run: RunDir
    writer: CheckpointWriter
    report: Report
    stop_asked: Callable[[], bool]
    """Whether a pause is to end; asked by this rank alone."""
    before_save: Callable[[], None] = lambda: None
    """Brings home what of the state is still on a device."""
    ranks: Ranks = field(default_factory=Ranks)

    def __post_init__(self) -> None:
        self.policy = self.state.settings.training.checkpoint
        self.last_saved: tuple[int, int] = (-1, -1)
        self.saved_at = time.monotonic()

    def wait(self) -> None:
        """Wait until everything is durable; raise what the last save failed with."""
        self.writer.wait()

    def is_due(self) -> bool:
        """Whether to save within an epoch, after the optimizer step just taken."""
        if self.writer.failed:
            due = True
        else:
            policy, now = self.policy, time.monotonic()
            steps, minutes = policy.every_steps, policy.every_minutes
            due = bool(steps) and self.state.global_step % (steps or 1) == 0
            due = due or (minutes is not None and now - self.saved_at >= 60 * minutes)
        return self._together(due)

    def _together(self, own: bool) -> bool:
        """What all ranks do, where a save takes all of them."""
        return self.ranks.agreed(own) if self.ranks.sharded else own

    def save(
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
        if not ends_epoch and not stopping and self._together(self.writer.busy):
            self.report.say("save_skipped", level="warning", step=s.global_step)
            return
        self.before_save()
        state: dict[str, Any] = {}
        if self.ranks.sharded or self.ranks.first:
            state = s.capture(metrics or {})
        info = {k: v for k, v in state.items() if k in SMALL}
        if self.ranks.sharded:
            from tsuzuku.training.sharding import cut, whole

            state = cut(state) if self.writer.together else whole(state, keep=self.ranks.first)
        if self.ranks.first or self.writer.together:
            template = self.policy.filename if ends_epoch else self.policy.filename_step
            names = (s.settings.model_name, s.settings.dataset_name)
            path = self.run.checkpoints / render(template, *names, s.epoch, s.global_step)
            info |= {"role": "checkpoint", "end_of_epoch": ends_epoch, "is_best": is_best}
            self._write(Save(path, state, info), wait=stopping or wait)
        self.last_saved, self.saved_at = position, time.monotonic()

    def _write(self, save: Save, *, wait: bool) -> None:
        failures = 0
        needed = bytes_needed(save.state)
        if self.writer.together:
            needed = int(self.ranks.total(torch.tensor([needed], dtype=torch.float64)).item())
        while True:
            try:
                self.writer.wait()
                self._require_room(needed)
                self.writer.start(save)
                if wait:
                    self.writer.wait()
                return
            except DiskFull as error:
                self._pause(error, needed)
            except TsuzukuError as error:
                failures += 1
                if error.code != "write_failed" or failures == ATTEMPTS:
                    raise
                # the save starts over, in a new file
                self.report.say("save_failed", "warning", error=error.detail)

    def _of_any(self, own: bool) -> bool:
        """What any of those that write says: they have to do the same."""
        return self.ranks.agreed(own) if self.writer.together else own

    def _require_room(self, needed: int) -> None:
        lacking: DiskFull | None = None
        try:
            require_room(self.run.checkpoints, needed)
        except DiskFull as error:
            lacking = error
        if self._of_any(lacking is not None):
            raise lacking or DiskFull("The disk is full where another rank writes its part.")

    def _pause(self, error: DiskFull, needed: int) -> None:
        """Wait until there is room for a checkpoint; raises `error` when asked to stop instead."""
        self.report.event("status", {"status": "paused", "message": error.detail})
        while self._of_any(shutil.disk_usage(self.run.checkpoints).free < needed + RESERVE):
            if self._of_any(self.stop_asked()):
                raise error
            time.sleep(0.5)
        self.report.event("status", {"status": "running", "message": ""})

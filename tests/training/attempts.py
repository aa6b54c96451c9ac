"""Attempts in this process, stopped at exactly chosen steps; and how two runs are compared."""

from __future__ import annotations

import signal
from pathlib import Path

from tsuzuku.core import launch
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.finding import tip
from tsuzuku.core.resume import plan_resume, plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.worker.check import first_difference
from tsuzuku.worker.train import train

TIMED = {"samples_per_second"}


class StopAfter:
    """A stop that comes after so many looks of the trainer, which looks after each optimizer step,
    before each validation batch, and after each epoch; never, for None."""

    def __init__(self, looks: int | None) -> None:
        self.number = int(signal.SIGTERM)
        self._left = looks

    def when_asked(self, tell: object) -> None:
        """Nobody asks: it comes by counting."""

    def requested(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0


def new_run(workspace: Workspace, store: Store, *words: str) -> RunDir:
    overrides = parse_overrides(list(words), "tiny", "noise")
    plan = plan_training(workspace, store, "tiny", "noise", overrides, fresh=True)
    return launch.prepare(workspace, store, plan).run


def attempt(workspace: Workspace, run: RunDir, stop_after: int | None = None) -> int:
    """One attempt, in this process; see StopAfter."""
    return train(workspace, run.run_id, StopAfter(stop_after))


def resume(workspace: Workspace, store: Store, target: str, *words: str) -> RunDir:
    plan = plan_resume(workspace, store, target, list(words))
    return launch.prepare(workspace, store, plan).run


def straight(workspace: Workspace, store: Store, *words: str) -> RunDir:
    """A run that was trained without any interruption."""
    run = new_run(workspace, store, *words)
    assert attempt(workspace, run) == 0, said(run)
    return run


def last(run: RunDir) -> Path:
    end = tip(run)
    assert end is not None
    return end.path


def difference(store: Store, one: RunDir, other: RunDir) -> str | None:
    """The first thing in which the ends or the curves of two runs differ; None if nothing does."""
    found = first_difference(last(one), last(other))
    if found:
        return found
    keys = {*store.keys(one.run_id), *store.keys(other.run_id)} - TIMED
    assert {"loss", "val_loss", "train_loss", "learning_rate"} <= keys
    for key in sorted(keys):
        a, b = (store.raw_points(run.run_id, key) for run in (one, other))
        if a != b:
            return f"curve {key}: {a} and {b}"
    return None


def said(run: RunDir) -> str:
    """What a run logged, for the message of a failed assertion."""
    return run.journal.read_text(encoding="utf-8") if run.journal.exists() else "nothing"

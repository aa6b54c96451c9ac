"""Runs as a worker would have left them, without one: real folders, files, rows and locks."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plain_plugins import python
from tsuzuku.core import checkpoint_files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.launch import prepare
from tsuzuku.core.resume import plan_training
from tsuzuku.core.settings import RunSettings, render
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace


def begin(workspace: Workspace, store: Store, *words: str, status: str = "stopped") -> RunDir:
    """A new run of `tiny` on `noise` with these overrides."""
    overrides = parse_overrides(words, "tiny", "noise")
    plan = plan_training(workspace, store, "tiny", "noise", overrides, fresh=True)
    run = prepare(workspace, store, plan).run
    # a moment of its own, so that "the newest" is clear
    store.update_run(run.run_id, status=status, updated_at=time.time())
    return run


def checkpoint(
    run: RunDir, epoch: int, step: int | None = None, **metrics: float
) -> CheckpointFile:
    """A checkpoint at the end of an epoch (of 10 steps), or at a step within it."""
    settings = RunSettings.model_validate(run.read_identity()["requested"])
    policy = settings.training.checkpoint
    template = policy.filename if step is None else policy.filename_step
    global_step = epoch * 10 if step is None else step
    name = render(template, "tiny", "noise", epoch, global_step)
    content = f"{run.run_id} {name}".encode()
    path = run.checkpoints / name
    checkpoint_files.temporary(path).write_bytes(content)
    info: dict[str, Any] = {
        "name": name,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "epoch": epoch,
        "global_step": global_step,
        "metrics": metrics,
        "best_val_loss": metrics.get("val_loss"),
        "config": settings.model_dump(mode="json"),
        "metadata": {"run_id": run.run_id, "timestamp": 1000.0 + global_step},
        "role": "checkpoint",
        "end_of_epoch": step is None,
        "is_best": False,
    }
    return checkpoint_files.publish(path, info)


HOLD = """
import sys
from pathlib import Path
from tsuzuku.core.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def worked_on(run: RunDir) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run's lock, as its worker would."""
    process = python(HOLD, run.lock)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate("\n")

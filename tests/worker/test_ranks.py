"""Several ranks under torchrun: real processes, stopped and killed, and compared bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable

import psutil
import pytest
from attempts import difference, last, new_run, said, straight

from plain_plugins import NOISE
from tsuzuku.core import launch
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

TWO = ["distributed.launcher=torchrun", "distributed.devices=2"]
LONG = ["dataset.count=203", "batch_size=7", "num_epochs=6", "accumulate_grad_batches=2"]
"""An odd count in odd batches: the last one of an epoch has one sample, and two ranks."""

pytestmark = [
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks need two processors"),
    pytest.mark.timeout(300),
]


def train_a_little(workspace: Workspace, store: Store, run: RunDir) -> subprocess.Popen[bytes]:
    """Start the next worker of a run, and wait until it has reported progress."""
    before = store.last_seq()
    process = launch.spawn(workspace, run)

    def progresses() -> bool:
        assert process.poll() is None, said(run)
        told = store.last_event(run.run_id, "progress")
        return told is not None and told.seq > before

    wait_until(progresses)
    return process


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def ranks_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The ranks of a driver, in order."""
    found: dict[int, psutil.Process] = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline()[-1:] == ["rank"] and "torch.distributed.run" not in child.cmdline():
                found[int(child.environ()["RANK"])] = child
        except (psutil.Error, KeyError):
            continue
    return [found[rank] for rank in sorted(found)]


@pytest.fixture
def calm(workspace: Workspace, store: Store) -> RunDir:
    """A run of two ranks that nobody disturbed, of samples that take ten milliseconds each."""
    slow = NOISE.replace("import random\n", "import random\nimport time\n")
    slow = slow.replace("index):\n", "index):\n        time.sleep(0.01)\n")
    (workspace.root / "datasets" / "noise.py").write_text(slow, encoding="utf-8")
    return straight(workspace, store, *LONG, *TWO, "checkpoint.every_steps=5")


def test_stopped_and_killed_runs_end_at_the_same_bits(
    workspace: Workspace, store: Store, calm: RunDir
) -> None:
    words = [*LONG, *TWO, "checkpoint.every_steps=5"]
    run = new_run(workspace, store, *words)
    process = train_a_little(workspace, store, run)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143, said(run)
    assert "step" in last(run).name, "it was to stop within an epoch"
    kept = json.loads(last(run).with_name(last(run).name + ".json").read_text())["metadata"]
    assert kept["ranks"] == 2
    for victims in ([1], [0], [0, 1]):
        process = train_a_little(workspace, store, run)
        ranks = ranks_of(process)
        for rank in victims:
            ranks[rank].kill()
        assert process.wait() == 1, said(run)
        record = store.run(run.run_id)
        assert record is not None
        assert record.status == "failed"
        assert any(f"Rank {rank} (process " in record.message for rank in victims)
    process = train_a_little(workspace, store, run)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()  # the driver
    wait_until(lambda: not any(child.is_running() for child in family), 20)
    assert launch.spawn(workspace, run).wait() == 0, said(run)
    assert difference(store, calm, run) is None

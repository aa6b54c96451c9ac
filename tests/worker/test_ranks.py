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
from attempts import attempt, difference, last, new_run, said, straight

from plain_plugins import NOISE
from tsuzuku.core import launch
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

TWO = ["distributed.launcher=torchrun", "distributed.devices=2"]
LONG = ["dataset.count=203", "batch_size=7", "num_epochs=4", "accumulate_grad_batches=2"]
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


def ranks_of(pid: int) -> list[psutil.Process]:
    """The ranks of a driver, in order."""
    found: dict[int, psutil.Process] = {}
    for child in psutil.Process(pid).children(recursive=True):
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
    for victims in ([1], [0, 1]):
        process = train_a_little(workspace, store, run)
        ranks = ranks_of(process.pid)
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


PLAIN = ["model.dropout=0", "dataset.noise=0", "dataset.count=203", "batch_size=7", "num_epochs=8"]
"""Nothing random but the order: 208 steps, whose batches are odd for two ranks."""


def test_another_number_of_ranks_has_the_same_curves(workspace: Workspace, store: Store) -> None:
    """And so has a batch that is computed in passes: only the order of summation is another."""
    alone = straight(workspace, store, *PLAIN)
    curves = ("loss", "train_loss", "val_loss", "accuracy", "grad_norm", "learning_rate")
    for words in (TWO, [*TWO, "distributed.strategy=fsdp", "device_batch_size=2"]):
        other = straight(workspace, store, *PLAIN, *words)
        for key in curves:
            a, b = (store.raw_points(run.run_id, key) for run in (alone, other))
            assert [step for step, _ in a] == [step for step, _ in b]
            worst = max(abs((x or 0) - (y or 0)) for (_, x), (_, y) in zip(a, b, strict=True))
            assert worst < 1e-4, (key, words)
    steps = [step for step, _ in store.raw_points(alone.run_id, "loss")]
    assert steps[-1] == 208


def test_a_sharded_run_goes_on_exactly_and_whole(workspace: Workspace, store: Store) -> None:
    words = ["dataset.count=203", "batch_size=7", "device_batch_size=2", "num_epochs=2", *TWO]
    words += ["distributed.strategy=fsdp"]
    calm = straight(workspace, store, *words)
    run = new_run(workspace, store, *words)
    assert attempt(workspace, run, stop_after=12) == 143, said(run)
    assert attempt(workspace, run) == 0, said(run)
    assert difference(store, calm, run) is None
    shapes = json.loads(last(run).with_name(last(run).name + ".json").read_text())["tensors"]
    assert shapes["net.0.weight"] == ["float32", [8, 6]]


def test_what_is_wrong_is_said_in_one_sentence(workspace: Workspace, store: Store) -> None:
    """And nothing is left running."""
    many = ["distributed.launcher=torchrun", "distributed.devices=4096", "batch_size=4096"]
    too_many = new_run(workspace, store, *many, "device=cpu")
    half_used = workspace.root / "models" / "tiny.py"
    half_used.write_text(
        half_used.read_text().replace(
            "self.net =", "self.idle = nn.Linear(2, 2)\n        self.net ="
        )
    )
    unused = new_run(workspace, store, *TWO)
    for run, sentence in (
        (too_many, "4096 ranks are asked for, and this machine has"),
        (unused, "the loss does not depend on idle.weight, idle.bias"),
    ):
        assert attempt(workspace, run) == 2, said(run)
        record = store.run(run.run_id)
        assert record is not None
        assert sentence in record.message
        assert "Traceback" not in record.message
    wait_until(lambda: not ranks_of(os.getpid()), 20)

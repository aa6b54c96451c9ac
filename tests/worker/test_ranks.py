"""Several ranks under torchrun: real processes, stopped and killed, and compared bit by bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from attempts import attempt, difference, last, new_run, resume, said, straight

from plain_plugins import NOISE, make_workspace
from tsuzuku.core import checkpoint_files, launch, parts
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.worker.check import verify

TWO = ["distributed.launcher=torchrun", "distributed.devices=2"]
LONG = ["dataset.count=203", "batch_size=7", "num_epochs=4", "accumulate_grad_batches=2"]
"""An odd count in odd batches: the last one of an epoch has one sample, and two ranks."""

SLOW = NOISE.replace("import random\n", "import random\nimport time\n").replace(
    "index):\n", "index):\n        time.sleep(0.01)\n"
)

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
    (workspace.root / "datasets" / "noise.py").write_text(SLOW, encoding="utf-8")
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


SLOW_DISK = """
import os
import time

if os.environ.get("SLOW_DISK"):
    sync = os.fsync
    os.fsync = lambda fd: (time.sleep(0.5), sync(fd))
"""


def test_a_sharded_run_goes_on_exactly_and_ends_whole(
    workspace: Workspace, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, its newest checkpoint damaged in a part, and killed in the middle of a save."""
    model = workspace.root / "models" / "tiny.py"
    model.write_text(model.read_text().replace("import torch\n", "import torch\n" + SLOW_DISK, 1))
    words = ["dataset.count=203", "batch_size=7", "device_batch_size=2", "num_epochs=2", *TWO]
    words += ["distributed.strategy=fsdp", "checkpoint.every_steps=5"]
    calm = straight(workspace, store, *words)
    run = new_run(workspace, store, *words)
    assert attempt(workspace, run, stop_after=12) == 143, said(run)
    stopped = last(run)
    assert len(list(parts.folder_of(stopped).iterdir())) == 2
    info = checkpoint_files.read(stopped).info
    assert info["tensors"]["net.0.weight"] == ["float32", [8, 6]]
    assert info["size"] == sum(p.stat().st_size for p in (stopped, *pieces(stopped)))
    assert verify(stopped)
    content = bytearray(pieces(stopped)[1].read_bytes())
    content[-1] ^= 1
    pieces(stopped)[1].write_bytes(content)

    monkeypatch.setenv("SLOW_DISK", "1")
    process = launch.spawn(workspace, run)
    drafts = run.checkpoints.glob
    wait_until(lambda: process.poll() is None and any(drafts(".*.parts.tmp/*")))
    for rank in ranks_of(process.pid):
        rank.kill()
    assert process.wait() == 1, said(run)
    assert any(drafts(".*.parts.tmp")), "it was to be killed in the middle of a save"
    aside = stopped.with_name(f"{stopped.name}.corrupt")
    assert aside.exists()
    assert parts.folder_of(aside).is_dir()
    monkeypatch.delenv("SLOW_DISK")

    assert attempt(workspace, run) == 0, said(run)
    assert difference(store, calm, run) is None
    assert not any(drafts(".*.tmp"))
    whole = [last(run), *checkpoint_files.bests(run.checkpoints)]
    assert len(whole) == 2
    assert all(parts.KEY not in checkpoint_files.read(path).info for path in whole)
    assert not any(parts.folder_of(path).exists() for path in whole)
    size = {c.name: c.size for c in store.checkpoints(run_id=run.run_id)}
    assert size[last(run).name] == last(run).stat().st_size
    # an earlier one is in parts, and one process goes on from it as from any
    earlier = next(f for f in checkpoint_files.in_folder(run.checkpoints)[0] if pieces(f.path))
    alone = ["distributed.launcher=local", "distributed.devices=1", "num_epochs=3"]
    branch = resume(workspace, store, f"{run.run_id}/{earlier.name}", *alone)
    assert branch.run_id != run.run_id
    assert attempt(workspace, branch) == 0, said(branch)


@pytest.mark.soak
def test_all_ranks_pause_while_the_disk_is_full(tmp_path: Path) -> None:
    """And go on when there is room, or end when they are to stop."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("NOT TESTED: a full disk (needs root, to mount a small one)")
    filler = tmp_path / "filler"
    words = [*LONG, *TWO, "distributed.strategy=fsdp", "checkpoint.every_steps=5"]

    def fill() -> None:
        with filler.open("wb") as file:
            free = shutil.disk_usage(tmp_path).free
            os.posix_fallocate(file.fileno(), 0, free - (10 << 20))

    try:
        workspace = Workspace(make_workspace(tmp_path / "workspace"))
        (workspace.root / "datasets" / "noise.py").write_text(SLOW, encoding="utf-8")
        with Store(workspace.db) as store:
            run = new_run(workspace, store, *words)

            def becomes(status: str) -> None:
                def is_so() -> bool:
                    told = store.last_event(run.run_id, "status")
                    return told is not None and told.payload["status"] == status

                wait_until(is_so)

            process = launch.spawn(workspace, run)
            wait_until(lambda: bool(checkpoint_files.in_folder(run.checkpoints)[0]))
            for _ in range(2):
                fill()
                becomes("paused")
                filler.unlink()
                becomes("running")
            fill()
            becomes("paused")
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 1, said(run)
            filler.unlink()
            assert not any(run.checkpoints.glob(".*"))
            assert attempt(workspace, run) == 0, said(run)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def pieces(path: Path) -> list[Path]:
    return sorted(parts.folder_of(path).glob("*"))


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

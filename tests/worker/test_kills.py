"""SIGKILL at random moments, real processes: the run ends at the bits of the undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attempts import difference, new_run, resume, said, straight

from tsuzuku.cli.prove import Proof
from tsuzuku.core import launch
from tsuzuku.core.checkpoint_files import in_folder
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.database import last_seq
from tsuzuku.core.pruning import prune_all
from tsuzuku.core.resume import plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

WORDS = [
    "model.hidden=40000",  # 360,000 weights: a save takes longer than a step
    "dataset.count=1000",
    "num_epochs=2",
    "checkpoint.every_steps=4",
    "checkpoint.keep_last_n=3",
    "scheduler=cosine",
]


@contextmanager
def pruning(workspace: Workspace) -> Iterator[None]:
    """Somebody prunes all the time meanwhile, as the server and the command line may."""
    ended = threading.Event()
    wrong: list[str] = []

    def prune() -> None:
        with Store(workspace.db) as store:
            while not ended.wait(0.1):
                wrong.extend(prune_all(workspace, store, dry=False)[2])

    thread = threading.Thread(target=prune)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert wrong == []


def kill_storm(workspace: Workspace, store: Store, kills: int, *more: str) -> None:
    overrides = parse_overrides([*WORDS, *more], "tiny", "noise")
    plan = plan_training(workspace, store, "tiny", "noise", overrides, fresh=True)
    seed = random.randrange(10**6)
    print("seed of the kills:", seed)
    proof = Proof(workspace, store, plan, random.Random(seed))
    calm, startup, training = proof.train()
    killed = 0
    while killed < kills:
        run = launch.prepare(workspace, store, plan).run
        with pruning(workspace):
            killed += proof.train_with_kills(run, min(kills - killed, 20), startup, training)
        found = proof.difference(calm, run)
        assert found is None, f"after {killed} kills (seed {seed}): {found}\n{said(run)[-3000:]}"
        leftovers = [p.name for p in run.checkpoints.iterdir() if p.name.startswith(".")]
        assert not leftovers
    with store.reading() as db:
        (count,) = db.execute("SELECT count(*) FROM events").fetchone()
        assert count == last_seq(db), "the sequence of events has a gap"


def test_twenty_random_sigkills_change_nothing(workspace: Workspace, store: Store) -> None:
    kill_storm(workspace, store, 20)


@pytest.mark.soak
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_hundred_random_sigkills_change_nothing(
    workspace: Workspace, store: Store, workers: int
) -> None:
    """Twice a hundred: with the batches loaded here, and by processes of their own."""
    kill_storm(workspace, store, 100, f"num_workers={workers}")


def test_sigkill_within_a_save_changes_nothing(workspace: Workspace, store: Store) -> None:
    calm = straight(workspace, store, *WORDS)
    run = new_run(workspace, store, *WORDS)
    for _ in range(5):
        process = launch.spawn(workspace, run)
        while not any(run.checkpoints.glob(".*.pt.tmp")):
            assert process.poll() is None, said(run)
        process.kill()
        process.wait()
        good, odd = in_folder(run.checkpoints)
        assert not odd, "a file under its final name has its sidecar"
        assert all(c.path.stat().st_size == c.info["size"] for c in good)
    assert launch.spawn(workspace, run).wait() == 0, said(run)
    assert difference(store, calm, run) is None


def children(pid: int) -> list[int]:
    """All living descendants of a process."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[1] == str(pid) and fields[0] != "Z":
            child = int(path.parent.name)
            found += [child, *children(child)]
    return found


def wait_until(condition: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def progressing(store: Store, run: RunDir, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, said(run)
    return store.last_event(run.run_id, "progress") is not None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_no_process_outlives_a_killed_trainer(workspace: Workspace, store: Store) -> None:
    run = new_run(workspace, store, "num_workers=2", "num_epochs=100000")
    process = launch.spawn(workspace, run)
    wait_until(lambda: progressing(store, run, process))
    family = children(process.pid)
    assert len(family) >= 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 20)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_loader_process_fails_the_run_which_then_resumes(
    workspace: Workspace, store: Store
) -> None:
    words = ["num_workers=2", "num_epochs=100000", "checkpoint.keep_last_n=2"]
    run = new_run(workspace, store, *words)
    process = launch.spawn(workspace, run)
    wait_until(lambda: progressing(store, run, process))
    loaders = [p for p in children(process.pid) if not children(p)]
    for pid in loaders:
        os.kill(pid, signal.SIGKILL)
    assert process.wait(60) == 1
    (error,) = store.events(run_id=run.run_id, types=["error"])
    assert "DataLoader worker" in error.payload["message"]
    resume(workspace, store, run.run_id, "num_workers=0")
    again = launch.spawn(workspace, run)
    wait_until(lambda: len(store.attempts(run.run_id)) == 2)
    again.send_signal(signal.SIGTERM)
    assert again.wait(60) in (143, -signal.SIGTERM)

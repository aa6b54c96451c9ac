"""The kill storm: SIGKILL to server and worker at random moments, and nothing is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from api import Api
from flock import Flock
from house import SLOW, make_house
from safetensors.numpy import load_file

from servers import free_port, kill_workers, workers
from streaming import everything
from tsuzuku.core.finding import tip
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from worker_process import worker as worker_command

FASHION = Path("/usr/share/datasets/fashion-mnist")
CLIENTS = 20
TIMED = "samples_per_second"
RESTART = {
    "restart.policy": "on_failure",
    "restart.delay": 0.02,
    "restart.max_attempts": 1000,
}


class Server:
    """A server that can be killed at any moment, that of its own start included."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.api = Api(f"http://127.0.0.1:{self.port}")
        self.log = root.parent / "storm.log"
        self.process = self._begun()

    def _begun(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tsuzuku", "-w", str(self.root), "serve"]
        with self.log.open("ab") as log:
            return subprocess.Popen([*command, "--port", str(self.port)], stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def replace(self) -> None:
        """SIGKILL, and the next one is started at once."""
        self.kill()
        self.process = self._begun()

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + 60
        while True:
            try:
                self.api.get("/api/health")
                return
            except (httpx.HTTPError, AssertionError):
                pass
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def workers(self, run_id: str) -> list[psutil.Process]:
        """Living workers of a run, without what they start themselves."""
        found: dict[int, psutil.Process] = {}
        parents: dict[int, int] = {}
        for process in workers(self.root):
            with suppress(psutil.NoSuchProcess):
                if run_id in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = process
                    parents[process.pid] = process.ppid()
        return [process for pid, process in found.items() if parents[pid] not in found]


@contextmanager
def served(root: Path) -> Iterator[Server]:
    server = Server(root)
    try:
        server.wait()
        yield server
    finally:
        server.kill()
        kill_workers(root)


class Storm:
    """Trainings of one kind, between kills."""

    def __init__(self, server: Server, body: dict[str, Any], chance: random.Random) -> None:
        self.server = server
        self.body = {"resume_from_checkpoint": False, **body}
        self.chance = chance
        self.workspace = Workspace(server.root)
        self.startup = self.training = 0.0
        self.killed: dict[str, int] = {"server": 0, "worker": 0, "both": 0}

    def quiet(self) -> RunDir:
        """A run that nothing happens to."""
        began = time.monotonic()
        api = self.server.api
        run_id = api.post("/api/train/start", self.body, status=202)["run_id"]
        api.wait_for_step(run_id, 1)
        self.startup = time.monotonic() - began
        run = api.wait_for_status(run_id, "completed", "failed", "crashed")
        assert run["status"] == "completed", run
        self.training = time.monotonic() - began - self.startup
        return self.workspace.run_dir(run_id)

    def stormy(self, kills: int) -> tuple[RunDir, int]:
        """A run, and how many of these kills it has met before its end."""
        self.server.wait()
        overrides = {**self.body["overrides"], **RESTART}
        body = {**self.body, "overrides": overrides}
        run_id = self.server.api.post("/api/train/start", body, status=202)["run_id"]
        run = self.workspace.run_dir(run_id)
        killed = 0
        while killed < kills and not run.weights.exists():
            # most of the time a worker is given enough to get on; sometimes not even to begin
            time.sleep(self.chance.uniform(0, self.startup + min(0.4 * self.training, 4.0)))
            if run.weights.exists():
                break
            self.strike(run_id)
            killed += 1
        self.server.wait()
        end = self.server.api.wait_for_status(run_id, "completed", "failed", "stopped")
        assert end["status"] == "completed", end
        return run, killed

    def until_still(self, run_id: str) -> None:
        self.server.api.wait("the worker's end", lambda: not self.server.workers(run_id))

    def strike(self, run_id: str) -> None:
        what = self.chance.choice(["server", "worker", "both"])
        self.killed[what] += 1
        if what == "both":
            self.server.kill()
        if what != "server":
            found = self.server.workers(run_id)
            assert len(found) <= 1, f"a training has two workers: {found}"
            for process in found:
                process.kill()
        if what != "worker":
            self.server.replace()


def compare(store: Store, quiet: RunDir, run: RunDir) -> None:
    """Weights, checkpoint and curves are the same, and every step is there once."""
    one, other = tip(quiet), tip(run)
    assert one is not None
    assert other is not None
    (answer,) = worker_command(quiet.path.parents[2], "compare", one.path, other.path)
    assert answer["same"], answer
    weights, others = load_file(quiet.weights), load_file(run.weights)
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert tensor.tobytes() == others[name].tobytes(), name
    keys = set(store.keys(quiet.run_id)) - {TIMED}
    assert keys == set(store.keys(run.run_id)) - {TIMED}
    for key in keys:
        points = store.raw_points(run.run_id, key)
        assert points == store.raw_points(quiet.run_id, key), key
    steps = [step for step, _ in store.raw_points(run.run_id, "loss")]
    assert steps == list(range(1, other.global_step + 1))


def check_story(store: Store, run: RunDir) -> None:
    """Every attempt has an end, and it is told once."""
    attempts = store.attempts(run.run_id)
    assert [a.attempt for a in attempts] == list(range(1, len(attempts) + 1))
    assert [a.status for a in attempts] == ["crashed"] * (len(attempts) - 1) + ["completed"]
    told = [e.payload["status"] for e in store.events(run_id=run.run_id, types=["status"])]
    assert told.count("crashed") == len(attempts) - 1
    assert told.count("completed") == 1
    assert told[-1] == "completed"
    leftovers = [p.name for p in run.checkpoints.iterdir() if p.name.startswith(".")]
    assert not leftovers


def storm(root: Path, kills: int, body: dict[str, Any]) -> None:
    seed = random.randrange(10**6)
    print("seed of the storm:", seed)
    chance = random.Random(seed)
    with served(root) as server, Store(Workspace(root).db) as store:
        flock = Flock(server.port, CLIENTS, chance)
        weather = Storm(server, body, chance)
        quiet = weather.quiet()
        killed = runs = 0
        while killed < kills:
            run, met = weather.stormy(kills - killed)
            killed, runs = killed + met, runs + 1
            print(f"run {runs} met {met} kills, {killed} in all", flush=True)
            compare(store, quiet, run)
            weather.until_still(run.run_id)
            check_story(store, run)
        print(f"{killed} kills {weather.killed} in {runs} runs")
        last = store.last_seq()
        expected = everything(store)
        assert [event["seq"] for event in expected] == list(range(1, last + 1))
        for client in flock.join(last):
            seqs = [event["seq"] for event in client.events]
            assert all(b == a + 1 for a, b in pairwise(seqs)), "a gap, or an event twice"
            assert client.events == expected
        print("connections:", [client.connections for client in flock.clients])


@pytest.mark.timeout(600)
def test_four_rounds_of_kills_change_nothing(tmp_path: Path) -> None:
    root = make_house(tmp_path / "workspace")
    settings = {SLOW: 0.01, "checkpoint.every_steps": 3, "checkpoint.keep_last_n": 3}
    names = {"model_name": "tiny", "dataset_name": "noise"}
    storm(root, 4, {**names, "epochs": 8, "overrides": settings})


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fifty_rounds_of_kills_change_nothing(tmp_path: Path) -> None:
    """A VAE on real pictures."""
    root = make_house(tmp_path / "workspace")
    settings = {
        "dataset.path": str(FASHION),
        "checkpoint.every_steps": 10,
        "checkpoint.keep_last_n": 3,
        "log_interval": 1,
        "num_workers": 1,
    }
    names = {"model_name": "vae", "dataset_name": "mnist", "limit_samples": 4000, "batch_size": 64}
    storm(root, 50, {**names, "epochs": 20, "overrides": settings})

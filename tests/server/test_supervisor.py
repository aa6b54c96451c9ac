"""Servers and workers that are killed, stuck and in each other's way: real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import SLOW, House, house
from websockets.asyncio.client import connect

from servers import free_port

ENDED = ("stopped", "completed", "failed", "crashed")


@pytest.fixture(scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("supervised") / "workspace") as one:
        yield one


@pytest.fixture
def home(_home: House) -> Iterator[House]:
    yield _home
    if _home.served.process.poll() is not None:
        _home.serve()
    _home.rest()


def begin(home: House, **more: Any) -> str:
    """A new training that takes its time; it has done its second step."""
    overrides = {SLOW: 0.02, "checkpoint.every_steps": 1, **more.pop("overrides", {})}
    run_id = home.api.start(resume_from_checkpoint=False, overrides=overrides, **more)["run_id"]
    home.api.wait_for_step(run_id, 2)
    return run_id


def restarting(delay: float, attempts: int = 3) -> dict[str, Any]:
    return {
        "restart.policy": "on_failure",
        "restart.delay": delay,
        "restart.max_attempts": attempts,
    }


def test_a_killed_server_leaves_the_training_alone(home: House) -> None:
    run_id = begin(home, epochs=20)
    worker = home.worker()
    home.kill_server()
    assert worker.is_running()
    home.serve()
    api = home.api
    status = api.get("/api/status")
    assert (status["is_training"], status["run_id"]) == (True, run_id)
    assert home.worker().pid == worker.pid
    assert api.run(run_id)["attempt"] == 1
    at = api.get("/api/progress")["global_step"]
    api.wait_for_step(run_id, at + 2)

    async def watch() -> list[int]:
        """What comes after the point at which the first server died."""
        steps: list[int] = []
        async with connect(f"ws://127.0.0.1:{home.port}/ws?since=0") as client:
            while not steps or steps[-1] < at + 3:
                event = json.loads(await asyncio.wait_for(client.recv(), 60))
                if event["type"] == "progress" and event["run_id"] == run_id:
                    steps.append(event["payload"]["global_step"])
        return steps

    steps = asyncio.run(watch())
    assert steps == list(range(1, steps[-1] + 1))
    assert api.start(status=409)["code"] == "already_running"
    assert api.post("/api/train/stop")["run_id"] == run_id
    assert api.wait_for_status(run_id, *ENDED)["status"] == "stopped"
    assert home.statuses(run_id) == ["starting", "running", "stopping", "stopped"]


def test_a_killed_worker_is_reported_with_its_last_words(home: House) -> None:
    run_id = begin(home)
    home.worker().kill()
    run = home.api.wait_for_status(run_id, *ENDED)
    assert run["status"] == "crashed"
    assert "SIGKILL" in run["message"]
    assert [a["status"] for a in run["attempts"]] == ["crashed"]
    assert run["attempts"][0]["ended_at"] is not None
    last = [e for e in home.api.events(run_id) if e["type"] in ("log", "status")][-2:]
    assert [e["type"] for e in last] == ["log", "status"]
    assert "my own last words" in last[0]["payload"]["message"]
    assert not home.api.get("/api/status")["is_training"]


def test_a_crash_while_no_server_runs_is_told_by_the_next(home: House) -> None:
    run_id = begin(home)
    home.kill_server()
    home.worker().kill()
    home.serve()
    home.api.wait_for_status(run_id, "crashed")
    assert home.api.start(epochs=1, overrides={SLOW: 0.02, "checkpoint.every_steps": 1})
    home.api.wait_for_status(run_id, "completed")
    assert home.statuses(run_id).count("crashed") == 1


def test_a_restart_goes_on_with_what_the_run_began_with(home: House) -> None:
    """From the last checkpoint, in the same run, even if the model's file has changed meanwhile;
    a worker that dies before its first word is one more attempt."""
    run_id = begin(home, epochs=4, overrides=restarting(0.0, 20))
    model = home.root / "models" / "tiny.py"
    before = model.read_text()
    try:
        model.write_text(before + "\n# changed while it is being trained\n")
        home.api.wait(
            "a checkpoint",
            lambda: home.api.get("/api/checkpoints", run_id=run_id)["checkpoints"],
        )
        first = home.worker()
        first.kill()
        # the next attempt is killed before it has loaded torch
        second = home.api.wait("the next worker", lambda: [p for p in home.workers() if p != first])
        second[0].kill()
        run = home.api.wait_for_status(run_id, "completed", "failed")
    finally:
        model.write_text(before)
    assert run["status"] == "completed", run
    count = len(run["attempts"])
    assert count == 3
    assert [a["attempt"] for a in run["attempts"]] == list(range(1, count + 1))
    assert [a["status"] for a in run["attempts"]] == ["crashed"] * (count - 1) + ["completed"]
    assert run["attempts"][-1]["start_step"] >= 1
    assert len([line for line in home.log(run_id) if "is restarted in" in line]) == count - 1
    newest = home.api.get("/api/runs", limit=1)["runs"][0]
    assert newest["run_id"] == run_id, "it did not branch"
    metrics = home.api.get(f"/api/runs/{run_id}/metrics", keys="loss")
    assert metrics["curves"]["loss"]["step"] == list(range(1, 29))


def test_restarts_give_up_after_so_many_without_a_new_checkpoint(home: House) -> None:
    body = {"model_name": "late", "dataset_name": "noise", "overrides": restarting(0.01, 2)}
    run_id = home.api.post("/api/train/start", body, status=202)["run_id"]
    home.wait_for_log(run_id, "not restarted any more")
    run = home.api.run(run_id)
    assert run["status"] == "failed"
    assert "the second epoch is too much" in run["message"]
    assert [a["start_step"] for a in run["attempts"]] == [0, 7, 7]
    assert home.statuses(run_id).count("failed") == 3


def test_a_model_that_ends_whoever_imports_it_does_not_loop(home: House) -> None:
    body = {"model_name": "exits", "dataset_name": "noise", "overrides": restarting(0.0, 1)}
    run_id = home.api.post("/api/train/start", body, status=202)["run_id"]
    home.wait_for_log(run_id, "not restarted any more")
    run = home.api.run(run_id)
    assert run["status"] == "crashed"
    assert "exit code 1" in run["message"]
    assert len(run["attempts"]) == 2


def test_a_stop_calls_a_restart_off(home: House) -> None:
    run_id = begin(home, overrides=restarting(600.0))
    home.worker().kill()
    home.wait_for_log(run_id, "is restarted in 600 seconds")
    assert home.api.post("/api/train/stop")["run_id"] == run_id
    assert home.api.run(run_id)["status"] == "stopped"
    assert home.api.post("/api/train/stop", status=404)["code"] == "not_running"


def test_who_stops_twice_does_not_end_the_worker_before_it_has_saved(home: House) -> None:
    run_id = begin(home, overrides={"checkpoint.every_steps": None, SLOW: 0.1})
    for _ in range(5):
        assert home.api.post("/api/train/stop")["run_id"] == run_id
    assert home.api.wait_for_status(run_id, *ENDED)["status"] == "stopped"
    newest = home.api.get("/api/checkpoints", run_id=run_id)["checkpoints"]
    assert newest
    assert newest[0]["global_step"] >= 2


def test_what_was_asked_to_stop_is_not_restarted(home: House) -> None:
    """Not even if it died before it could say that it had heard."""
    run_id = begin(home, overrides=restarting(0.0))
    worker = home.worker()
    worker.suspend()
    home.api.post("/api/train/stop")
    worker.kill()
    assert home.api.wait_for_status(run_id, *ENDED)["status"] == "crashed"
    other = begin(home)  # seconds, in which many looks are taken
    assert other != run_id
    assert not [line for line in home.log(run_id) if "restart" in line]


def test_a_resume_while_it_stops_waits_its_turn(home: House) -> None:
    """202 or 409 at any moment, one 202, and the second worker comes after the first."""
    settings = {SLOW: 0.02, "checkpoint.every_steps": 1}
    run_id = begin(home, epochs=50)
    resumed = threading.Event()
    codes: list[int] = []

    def resume() -> None:
        body = {"model_name": "tiny", "dataset_name": "noise", "epochs": 50, "overrides": settings}
        while not resumed.is_set():
            codes.append(home.api.http.post("/api/train/resume", json=body).status_code)
            if codes[-1] not in (409,):
                resumed.set()

    threads = [threading.Thread(target=resume) for _ in range(3)]
    home.api.post("/api/train/stop")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes.count(202) == 1, codes
    assert set(codes) <= {202, 409}
    home.api.wait("the second attempt", lambda: home.statuses(run_id).count("running") == 2)
    once = ["starting", "running", "stopping", "stopped"]
    assert home.statuses(run_id) == [*once, "starting", "running"]
    attempts = home.api.run(run_id)["attempts"]
    assert [a["status"] for a in attempts] == ["stopped", "running"]
    assert attempts[0]["ended_at"] <= attempts[1]["started_at"]


def test_a_damaged_run_does_not_keep_the_others_from_being_watched(home: House) -> None:
    first = begin(home)
    home.kill_server()
    home.worker().kill()
    folder = home.root / "outputs" / first.replace("_", "/")
    identity = (folder / "run.json").read_text()
    (folder / "run.json").write_text('{"requested": 7}')
    home.serve()
    home.api.wait_for_status(first, "crashed")
    second = begin(home, overrides=restarting(600.0))
    home.worker().kill()
    home.wait_for_log(second, "is restarted in 600 seconds")
    home.api.post("/api/train/stop")
    (folder / "run.json").write_text(identity)


def refused(root: Path, port: int) -> str:
    """What a server says that cannot start."""
    command = [sys.executable, "-m", "tsuzuku", "-w", str(root), "serve", "--port", str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_a_second_server_is_refused_in_a_sentence(home: House, tmp_path: Path) -> None:
    said = refused(home.root, free_port())
    assert "Another server has the workspace" in said
    other = tmp_path / "other"
    (other / "outputs").mkdir(parents=True)
    (other / "config.yaml").write_text("")
    said = refused(other, home.port)
    assert f"cannot listen on 127.0.0.1 port {home.port}" in said
    assert "`--port` names another one" in said
    assert home.api.get("/api/health")["ok"]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two trainings at once, and little patience with those who do not stop."""
    folder = tmp_path_factory.mktemp("strict") / "workspace"
    with house(folder, max_running=2, stop_patience=0.5) as one:
        yield one


def test_a_worker_that_does_not_stop_is_ended(strict: House) -> None:
    """One is stuck in a step; the other does not even hear the signal."""
    bodies = [{"model_name": name, "dataset_name": "noise"} for name in ("stubborn", "deaf")]
    runs = [strict.api.post("/api/train/start", b, status=202)["run_id"] for b in bodies]
    for run_id in runs:
        strict.wait_for_log(run_id, "Training started")
    for run_id in runs:
        assert strict.api.post(f"/api/train/stop?run_id={run_id}")["run_id"] == run_id
    for run_id in runs:
        run = strict.api.wait_for_status(run_id, *ENDED)
        assert run["status"] == "stopped"
        assert strict.wait_for_log(run_id, "0.5 seconds")
    assert strict.workers() == []


def test_two_trainings_side_by_side(strict: House) -> None:
    """`run_id` says which; without one it is the newest."""
    first, second = begin(strict, epochs=50), begin(strict, epochs=50)
    api = strict.api
    assert len(strict.workers()) == 2
    assert api.start(status=409)["code"] == "already_running"
    assert set(api.get("/api/status")["running"]) == {first, second}
    assert api.get("/api/status")["run_id"] == second
    assert api.get("/api/status", run_id=first)["run_id"] == first
    assert api.get("/api/progress", run_id=first)["is_training"]
    assert api.post(f"/api/train/stop?run_id={first}")["run_id"] == first
    api.wait_for_status(first, "stopped")
    status = api.get("/api/status", run_id=first)
    assert (status["is_training"], status["status"]) == (False, "stopped")
    assert api.get("/api/status")["running"] == [second]
    assert api.post(f"/api/train/stop?run_id={first}", status=404)["code"] == "not_running"
    assert api.post("/api/train/stop?run_id=2020-01-01_00-00-00", status=404)
    assert api.post("/api/train/stop")["run_id"] == second
    api.wait_for_status(second, "stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_nothing_else(strict: House, number: signal.Signals) -> None:
    run_id = begin(strict, epochs=50)
    worker = strict.worker()
    strict.served.process.send_signal(number)
    # as a shell sees it: 0, or 128 and the signal
    assert strict.served.process.wait(60) in (0, -number, 128 + number)
    assert "Traceback" not in strict.served.log.read_text()
    assert worker.is_running()
    os.kill(worker.pid, signal.SIGTERM)  # as the command line does
    worker.wait(60)
    strict.serve()
    assert strict.api.run(run_id)["status"] == "stopped"

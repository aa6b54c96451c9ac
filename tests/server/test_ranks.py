"""Trainings of two processes over HTTP and on the command line, as for any other training."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from api import Api
from terminal import ask, cli

from servers import Served, serving
from uneven import make_uneven_workspace, placed, start


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = make_uneven_workspace(tmp_path_factory.mktemp("ranks") / "workspace", "en")
    with serving(root) as one:
        yield one


@pytest.fixture(scope="module")
def api(served: Served) -> Api:
    return Api(served.url)


@pytest.fixture(scope="module")
def run_id(served: Served) -> str:
    """A training of two ranks, which the tests interrupt one after the other."""
    return start(served)


def pids(found: Any) -> list[int]:
    return [one["pid"] for one in found["ranks"]]


def gone(api: Api, processes: list[int]) -> None:
    api.wait("the end of all ranks", lambda: not any(map(psutil.pid_exists, processes)))


def test_where_ranks_are_and_how_they_fare(served: Served, run_id: str) -> None:
    found = placed(served, run_id)
    assert (found["run_id"], found["attempt"], found["launcher"]) == (run_id, 1, "torchrun")
    assert [one["rank"] for one in found["ranks"]] == [0, 1]
    for rank, one in enumerate(found["ranks"]):
        environment = psutil.Process(one["pid"]).environ()
        assert environment["RANK"] == str(rank)
        assert one["host"] == os.uname().nodename
        assert (one["device"], one["alive"], one["device_memory"]) == ("cpu", True, None)
        assert one["memory"] > 1e7
        assert one["batches_per_second"] > 0
    assert [one["straggler"] for one in found["ranks"]] == [False, True]


def test_what_a_rank_has_printed(api: Api, run_id: str) -> None:
    path = f"/api/runs/{run_id}/ranks"
    found = api.get(f"{path}/1/log", tail=3)
    assert (found["run_id"], found["rank"], found["earlier"]) == (run_id, 1, True)
    lines = found["text"].splitlines()
    assert len(lines) == 3
    assert all(line.startswith("sample ") for line in lines)
    assert api.get(f"{path}/0/log")["text"] == ""
    assert api.get(f"{path}/2/log", 404)["code"] == "not_found"
    assert api.get(f"{path}/-1/log", 422)["code"] == "malformed"
    assert api.get(f"{path}/0/log", 422, tail=10**9)["code"] == "malformed"
    assert api.get("/api/runs/2020-01-01_00-00-00/ranks", 404)["code"] == "not_found"
    assert api.get("/api/runs/2020-01-01_00-00-00/ranks/0/log", 404)["code"] == "not_found"


def test_the_command_line_says_the_same_here_and_of_a_server(
    api: Api, served: Served, run_id: str, tmp_path: Path
) -> None:
    there = ("--server", served.url)
    for folder, words in ((served.root, ("ranks",)), (tmp_path, (*there, "ranks", run_id))):
        found = ask(folder, *words)
        assert found["run_id"] == run_id
        assert pids(found) == pids(api.get(f"/api/runs/{run_id}/ranks"))
    said = cli(served.root, "ranks")
    assert f"{run_id}: attempt 1 by torchrun" in said
    assert "The others wait for rank 1: 1 of 2 are much slower." in said
    said = cli(tmp_path, *there, "ranks", "--log", "1", "--tail", "2")
    assert [line.split()[0] for line in said.splitlines()] == ["sample", "sample"]
    assert "Rank 5 of run" in cli(served.root, "ranks", "--log", "5", code=2)


def test_a_killed_rank_ends_the_others_and_is_named(api: Api, served: Served, run_id: str) -> None:
    before = pids(placed(served, run_id))
    os.kill(before[1], signal.SIGKILL)
    run = api.wait_for_status(run_id, "failed")
    assert f"Rank 1 (process {before[1]} on " in run["message"]
    (error,) = [e["payload"] for e in api.events(run_id) if e["type"] == "error"]
    assert error["code"] == "rank_lost"
    gone(api, before)
    found = api.get(f"/api/runs/{run_id}/ranks")
    assert pids(found) == before
    assert not any(one["alive"] for one in found["ranks"])


def test_a_killed_driver_leaves_no_rank_alive(api: Api, served: Served, run_id: str) -> None:
    body = {"model_name": "tiny", "dataset_name": "uneven"}
    assert api.post("/api/train/resume", body, 202)["attempt"] == 2
    found = placed(served, run_id, 2)
    os.kill(int(api.run(run_id)["attempts"][-1]["pid"]), signal.SIGKILL)
    api.wait_for_status(run_id, "crashed")
    gone(api, pids(found))
    found = api.get(f"/api/runs/{run_id}/ranks")
    assert (len(found["ranks"]), any(one["alive"] for one in found["ranks"])) == (2, False)


def test_stop_saves_as_for_any_other_training(api: Api, served: Served, run_id: str) -> None:
    body = {"model_name": "tiny", "dataset_name": "uneven"}
    preview = api.post("/api/train/resume/preview", body)
    ranks = next(part for part in preview["components"] if part["name"] == "ranks")
    assert (ranks["verdict"], ranks["why"]) == ("exact", "2, as before.")
    assert api.post("/api/train/resume", body, 202)["attempt"] == 3
    found = placed(served, run_id, 3)
    assert f"Stopped {run_id}." in cli(served.root, "stop")
    assert api.run(run_id)["status"] == "stopped"
    gone(api, pids(found))
    newest = api.get("/api/checkpoints", run_id=run_id)["checkpoints"][0]
    details = api.get(f"/api/checkpoints/{run_id}/{newest['name']}")
    assert details["metadata"]["ranks"] == 2


def test_a_training_of_one_process_has_no_ranks(api: Api, served: Served) -> None:
    one = start(served, overrides={}, epochs=1, limit_samples=10)
    api.wait_for_status(one, "completed")
    found = api.get(f"/api/runs/{one}/ranks")
    assert found == {"run_id": one, "attempt": 1, "launcher": "local", "time": None, "ranks": []}
    assert api.get(f"/api/runs/{one}/ranks/0/log", 404)["code"] == "not_found"
    assert f"{one}: attempt 1 has no ranks." in cli(served.root, "ranks")

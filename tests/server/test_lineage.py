"""Families and tails over HTTP, of runs that nobody had to train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api import Api

from histories import World
from plain_plugins import make_workspace
from servers import serving
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("lineage") / "workspace")


@pytest.fixture(scope="module")
def world(root: Path) -> Iterator[World]:
    """A run of 60 steps, a branch of its step 20, and a branch of that one's step 40."""
    with Store(Workspace(root).db) as store:
        made = World(store)
        made.attempt(made.runs[0], 60, 20, 0, 1)
        for which in (0, 1):
            run = made.branch(made.runs[-1], which)
            assert run is not None
            made.attempt(run, 60, 10, 0, 1)
        yield made


@pytest.fixture(scope="module")
def api(root: Path, world: World) -> Iterator[Api]:
    with serving(root) as served:
        yield Api(served.url)


def test_the_family(api: Api, world: World) -> None:
    names = [run.run_id for run in world.runs]
    found = api.get("/api/lineage", run_id=names[1])
    assert [run["run_id"] for run in found["runs"]] == names
    assert [run["depth"] for run in found["runs"]] == [0, 1, 2]
    assert found["runs"][1]["branch"] == {
        "run_id": names[0], "checkpoint": "20.pt", "global_step": 20,
        "fine_tuning": False, "state": "checkpoint_deleted",
    }  # fmt: skip
    assert [run["run_id"] for run in api.get("/api/lineage", limit=1)["runs"]] == names[:1]
    assert api.get("/api/lineage", model_name="nobody") == {"runs": [], "total": 0}


def test_tails_are_there_for_who_asks(api: Api, world: World) -> None:
    first, second, last = world.runs

    def tails(**query: object) -> dict[str, Any]:
        path = f"/api/runs/{last.run_id}/metrics"
        return api.get(path, keys="loss", **query)["tails"]

    assert tails() == tails(tails=True, lineage=False) == {}
    older, newer = tails(tails=True)["loss"]
    assert (older["run_id"], older["after"]) == (first.run_id, 20)
    assert older["step"] == list(range(21, 61))
    assert (newer["run_id"], newer["after"]) == (second.run_id, 40)
    assert newer["step"] == list(range(41, 81))
    (few,) = tails(tails=True, points=5, from_step=70)["loss"]
    assert few["run_id"] == second.run_id
    assert 1 < len(few["step"]) <= 5
    world.attempt(first, 20, 20, 0, 1)  # one that trains on
    assert tails(tails=True)["loss"][0]["step"][-1] == 80


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"run_id": "2020-01-01_00-00-00"}, 404),
        ({"run_id": "\x00/.."}, 404),
        ({"run_id": "x" * 41}, 422),
        ({"limit": 0}, 422),
    ],
)
def test_what_cannot_be_is_refused(api: Api, query: dict[str, object], status: int) -> None:
    api.get("/api/lineage", status, **query)

"""The listings that SQLite writes, against those that pydantic would."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsuzuku.core.answers import CheckpointInfo, RunInfo
from tsuzuku.core.database import SCHEMA_VERSION
from tsuzuku.core.schemas import Attempt, Checkpoint, Run
from tsuzuku.core.store import Store

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FINITE = st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) > 1e-30)
TIME = st.floats(0, 4e9)
COUNT = st.integers(0, 2**53)
IDS = st.sampled_from([f"2026-11-21_19-20-{n:02}" for n in range(4)])
STATUS = st.sampled_from(["starting", "running", "stopped", "completed", "failed", "crashed"])

RUNS = st.lists(
    st.builds(
        Run, run_id=IDS, model_name=TEXT, dataset_name=TEXT, status=STATUS, created_at=TIME,
        updated_at=TIME, parent=st.none() | TEXT, attempt=COUNT, epoch=COUNT, global_step=COUNT,
        total_epochs=COUNT, best_metric=st.none() | FINITE, message=TEXT,
    ), max_size=4, unique_by=lambda run: run.run_id,
)  # fmt: skip
ATTEMPTS = st.lists(
    st.builds(
        Attempt, run_id=IDS, attempt=st.integers(1, 4), pid=COUNT, hostname=TEXT, started_at=TIME,
        ended_at=st.none() | TIME, status=STATUS, resumed_from=st.none() | TEXT, start_step=COUNT,
    ), max_size=6, unique_by=lambda one: (one.run_id, one.attempt),
)  # fmt: skip
CHECKPOINTS = st.lists(
    st.builds(
        Checkpoint, name=TEXT, run_id=IDS, model_name=TEXT, dataset_name=TEXT, epoch=COUNT,
        global_step=COUNT, path=TEXT, size=st.integers(0, 10**13), sha256=TEXT, created_at=TIME,
        metrics=st.dictionaries(TEXT, st.none() | FINITE, max_size=3), is_best=st.booleans(),
        is_latest=st.booleans(), kept_because=st.lists(TEXT, max_size=2), verified=st.booleans(),
        pinned=st.booleans(),
    ), max_size=5, unique_by=lambda one: (one.run_id, one.name),
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("listing") / "tsuzuku.db") as store:
        yield store


def emptied(store: Store) -> Store:
    with sqlite3.connect(store.path) as db:
        for table in ("runs", "attempts", "checkpoints"):
            db.execute(f"DELETE FROM {table}")
    return store


@given(RUNS, ATTEMPTS, st.none() | STATUS)
@settings(max_examples=40)
def test_runs_are_listed_as_they_are(
    shared: Store, runs: list[Run], attempts: list[Attempt], status: str | None
) -> None:
    store = emptied(shared)
    for run in runs:
        store.put_run(run)
    for attempt in attempts:
        store.put_attempt(attempt)
    listed = [json.loads(text) for text in store.runs_json(status=status)]
    expected: list[RunInfo] = []
    for run in store.runs(status=status):
        own = store.attempts(run.run_id)
        origin = own[-1].resumed_from if own else None
        expected.append(RunInfo(**run.model_dump(), resumed_from=origin, attempts=own))
    assert listed == [info.model_dump(mode="json") for info in expected]
    page = store.runs_json(limit=2, offset=1)
    assert page == store.runs_json()[1:3]


@given(CHECKPOINTS)
@settings(max_examples=40)
def test_checkpoints_are_listed_as_they_are(shared: Store, checkpoints: list[Checkpoint]) -> None:
    store = emptied(shared)
    for checkpoint in checkpoints:
        store.put_checkpoint(checkpoint)
    listed = [json.loads(text) for text in store.checkpoints_json()]
    expected = [
        CheckpointInfo(**c.model_dump(), size_mb=round(c.size / 1e6, 3))
        for c in store.checkpoints()
    ]
    assert listed == [info.model_dump(mode="json") for info in expected]


@given(RUNS, st.sets(IDS), st.none() | STATUS)
@settings(max_examples=30)
def test_runs_whose_worker_is_gone_are_listed_as_crashed(
    shared: Store, runs: list[Run], gone: set[str], status: str | None
) -> None:
    store = emptied(shared)
    for run in runs:
        store.put_run(run)
    true = {r.run_id: "crashed" if r.run_id in gone else r.status for r in store.runs()}
    listed = [json.loads(t) for t in store.runs_json(crashed=gone, status=status)]
    assert {r["run_id"]: r["status"] for r in listed} == {
        run_id: what for run_id, what in true.items() if status in (None, what)
    }


FIRST_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, model_name TEXT NOT NULL, dataset_name TEXT NOT NULL,
    status TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL, parent TEXT,
    attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, global_step INTEGER NOT NULL,
    total_epochs INTEGER NOT NULL, best_metric REAL, message TEXT NOT NULL
);
CREATE TABLE attempts (
    run_id TEXT NOT NULL, attempt INTEGER NOT NULL, pid INTEGER NOT NULL, hostname TEXT NOT NULL,
    started_at REAL NOT NULL, ended_at REAL, status TEXT NOT NULL, resumed_from TEXT,
    start_step INTEGER NOT NULL, PRIMARY KEY (run_id, attempt)
);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, type TEXT NOT NULL, time REAL NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX events_by_run ON events (run_id, seq);
CREATE INDEX events_but_progress ON events (run_id, seq) WHERE type != 'progress';
CREATE TABLE checkpoints (
    run_id TEXT NOT NULL, name TEXT NOT NULL, model_name TEXT NOT NULL,
    dataset_name TEXT NOT NULL, epoch INTEGER NOT NULL, global_step INTEGER NOT NULL,
    path TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, created_at REAL NOT NULL,
    metrics TEXT NOT NULL, is_best INTEGER NOT NULL, is_latest INTEGER NOT NULL,
    kept_because TEXT NOT NULL, verified INTEGER NOT NULL, pinned INTEGER NOT NULL,
    PRIMARY KEY (run_id, name)
);
CREATE TABLE proofs (
    id INTEGER PRIMARY KEY, model_name TEXT NOT NULL, dataset_name TEXT NOT NULL,
    source_sha256 TEXT NOT NULL, verdict TEXT NOT NULL, time REAL NOT NULL
);
CREATE TABLE series (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, key TEXT NOT NULL, UNIQUE (run_id, key)
);
CREATE TABLE points (
    series INTEGER NOT NULL, step INTEGER NOT NULL, value REAL, PRIMARY KEY (series, step)
) WITHOUT ROWID;
CREATE TABLE rollups (
    series INTEGER NOT NULL, level INTEGER NOT NULL, bucket INTEGER NOT NULL,
    min REAL, max REAL, sum REAL, count INTEGER NOT NULL, PRIMARY KEY (series, level, bucket)
) WITHOUT ROWID;
INSERT INTO runs VALUES ('2026-11-21_19-20-14', 'vae', 'mnist', 'completed', 1.5, 2.5, NULL,
    1, 3, 30, 3, 0.25, '"学習" 完了');
INSERT INTO attempts VALUES ('2026-11-21_19-20-14', 1, 7, 'h', 1.5, 2.5, 'completed', NULL, 0);
INSERT INTO events VALUES (41, '2026-11-21_19-20-14', 'log', 1.0, '{"level":"info"}');
INSERT INTO checkpoints VALUES ('2026-11-21_19-20-14', 'a.pt', 'vae', 'mnist', 3, 30, '/w/a.pt',
    1234567, 'ab', 2.0, '{"val_loss":0.25}', 1, 0, '["best"]', 0, 1);
PRAGMA user_version=1;
"""
"""As the first version made it."""


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "tsuzuku.db"
    old = sqlite3.connect(path)
    old.execute("PRAGMA journal_mode=WAL")
    old.executescript(FIRST_SCHEMA)
    old.close()
    with Store(path) as store, Store(path) as other:
        for one in (store, other):
            (run,) = [json.loads(text) for text in one.runs_json()]
            assert (run["status"], run["message"]) == ("completed", '"学習" 完了')
            assert [a["pid"] for a in run["attempts"]] == [7]
            (listed,) = [json.loads(text) for text in one.checkpoints_json()]
            assert listed["size_mb"] == 1.235
            assert (listed["is_best"], listed["pinned"], listed["is_latest"]) == (True, True, False)
            assert listed["kept_because"] == ["best"]
            assert one.last_seq() == 41
        store.update_run("2026-11-21_19-20-14", status="stopped")
        assert json.loads(other.runs_json()[0])["status"] == "stopped"
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        assert not [name for name in names if name.startswith("old_")]
        fresh = tmp_path / "fresh.db"
        Store(fresh).close()
        with sqlite3.connect(fresh) as new:
            assert names == {name for (name,) in new.execute("SELECT name FROM sqlite_master")}

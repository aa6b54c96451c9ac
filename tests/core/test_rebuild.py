"""The database made again from the run folders is the one that was lost."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from made_runs import begin, checkpoint, worked_on
from tsuzuku.core.errors import Busy
from tsuzuku.core.pruning import prune
from tsuzuku.core.rebuild import rebuild_from_folders
from tsuzuku.core.schemas import Attempt, Event
from tsuzuku.core.settings import CheckpointSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace, write_atomically

CLOCK = count(1_800_000_000.5)


def attempt(run: RunDir, store: Store, number: int, status: str = "completed") -> None:
    fields = {"run_id": run.run_id, "attempt": number, "pid": 1, "hostname": "h", "status": status}
    made = Attempt.model_validate({**fields, "started_at": 10.0 * number, "ended_at": 5.0})
    store.put_attempt(made)
    store.update_run(run.run_id, attempt=number)
    identity = run.read_identity()
    identity["attempts"] = [*identity.get("attempts", []), made.model_dump()]
    write_atomically(run.identity, json.dumps(identity))


def happen(run: RunDir, store: Store, *events: tuple[str, dict[str, Any]]) -> None:
    """Events into the table and into the journal, as a worker writes them."""
    made = [
        Event.model_validate(
            {"type": kind, "payload": payload, "run_id": run.run_id, "time": next(CLOCK)}
        )
        for kind, payload in events
    ]
    numbered = store.append(made)
    with run.journal.open("a", encoding="utf-8") as journal:
        journal.write("".join(e.model_dump_json() + "\n" for e in numbered))


def train(run: RunDir, store: Store, epochs: int, ended: str = "completed") -> None:
    """Everything that a run of so many epochs leaves."""
    attempt(run, store, 1)
    happen(run, store, ("status", {"status": "running", "message": ""}))
    for epoch in range(1, epochs + 1):
        steps = range(10 * epoch - 9, 10 * epoch + 1)
        happen(
            run,
            store,
            *[("progress", {"global_step": s, "loss": 1 / s, "metrics": {"a": s}}) for s in steps],
            (
                "validation_result",
                {"epoch": epoch, "global_step": 10 * epoch, "val_loss": 2 / epoch},
            ),
        )
        made = checkpoint(run, epoch, val_loss=2 / epoch)
        happen(run, store, ("checkpoint", {"name": made.name, "epoch": epoch}))
    for record in prune(run, CheckpointSettings(), store).records:
        store.put_checkpoint(record)
    happen(run, store, ("status", {"status": ended, "message": "済"}))


def contents(workspace: Workspace) -> dict[str, Any]:
    with Store(workspace.db) as store:
        runs = store.runs()
        return {
            "runs": [r.model_dump(exclude={"best_metric"}) for r in runs],
            "attempts": [store.attempts(r.run_id) for r in runs],
            "events": [e.model_dump() for e in store.events(limit=10**6)],
            "curves": {
                (r.run_id, k): (store.raw_points(r.run_id, k), store.curve(r.run_id, k, points=7))
                for r in runs
                for k in store.keys(r.run_id)
            },
            "checkpoints": [
                c.model_dump(exclude={"verified", "kept_because", "is_best", "pinned"})
                for c in store.checkpoints()
            ],
        }


def test_everything_comes_back_as_it_was(workspace: Workspace, store: Store) -> None:
    first, second = begin(workspace, store), begin(workspace, store, "seed=1")
    train(first, store, 3)
    train(second, store, 2, ended="failed")
    store.close()
    before = contents(workspace)
    assert len(before["curves"]) == 6
    workspace.db.unlink()
    assert rebuild_from_folders(workspace) == 2
    after = contents(workspace)
    for part in before:
        assert after[part] == before[part], part
    assert [e["seq"] for e in after["events"]] == list(range(1, len(after["events"]) + 1))


def test_events_of_runs_that_ran_at_the_same_time_keep_their_order(
    workspace: Workspace, store: Store
) -> None:
    first, second = begin(workspace, store), begin(workspace, store)
    for number in range(20):
        run = (first, second)[number % 2]
        event = ("log", {"level": "info", "message": str(number)})
        happen(run, store, event)
    store.close()
    workspace.db.unlink()
    rebuild_from_folders(workspace)
    with Store(workspace.db) as again:
        messages = [e.payload["message"] for e in again.events(types=["log"])]
        assert messages[2:] == [str(n) for n in range(20)]


def test_what_marks_a_checkpoint_comes_back(workspace: Workspace, store: Store) -> None:
    """Which is best, and which was pinned: a pin that is forgotten is a checkpoint that is lost."""
    run = begin(workspace, store)
    train(run, store, 3)
    pinned = store.checkpoints()[-1]
    store.put_checkpoint(pinned.model_copy(update={"pinned": True}))
    before = {c.name: (c.is_best, c.pinned) for c in store.checkpoints()}
    store.close()
    rebuild_from_folders(workspace)
    with Store(workspace.db) as again:
        assert {c.name: (c.is_best, c.pinned) for c in again.checkpoints()} == before


@pytest.mark.parametrize("torn", [b'{"type": "log", "payl', b"\xff\xfe", b"{}", b"\x00\x00"])
def test_a_line_that_a_crash_cut_short_is_left_out(
    workspace: Workspace, store: Store, torn: bytes
) -> None:
    run = begin(workspace, store)
    train(run, store, 1)
    store.close()
    before = contents(workspace)
    with run.journal.open("ab") as journal:
        journal.write(torn)
    rebuild_from_folders(workspace)
    assert contents(workspace)["events"] == before["events"]


def test_a_run_that_was_active_when_it_was_lost_has_crashed(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    happen(run, store, ("status", {"status": "running", "message": ""}))
    store.close()
    rebuild_from_folders(workspace)
    with Store(workspace.db) as again:
        assert [r.status for r in again.runs()] == ["crashed"]


def test_the_best_value_comes_back(workspace: Workspace, store: Store) -> None:
    train(begin(workspace, store), store, 2)
    store.close()
    rebuild_from_folders(workspace)
    with Store(workspace.db) as again:
        assert [r.best_metric for r in again.runs()] == [1.0]


def test_a_run_whose_identity_is_damaged_does_not_keep_the_others_out(
    workspace: Workspace, store: Store
) -> None:
    good, bad = begin(workspace, store), begin(workspace, store)
    store.close()
    for content in ("{", "{}", "[]"):
        bad.identity.write_text(content, encoding="utf-8")
        rebuild_from_folders(workspace)
        with Store(workspace.db) as again:
            assert [r.run_id for r in again.runs()] == [good.run_id]


def test_while_a_worker_lives_nothing_is_rebuilt(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store)
    store.close()
    before = workspace.db.read_bytes()
    with worked_on(run), pytest.raises(Busy, match=run.run_id):
        rebuild_from_folders(workspace)
    assert workspace.db.read_bytes() == before
    assert rebuild_from_folders(workspace) == 1


def test_a_workspace_without_runs_gets_an_empty_database(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert rebuild_from_folders(workspace) == 0
    with Store(workspace.db) as store:
        assert (store.runs(), store.last_seq()) == ([], 0)


def test_a_lineage_survives(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    identity = begin(workspace, store).read_identity() | {"parent": f"{run.run_id}/x.pt"}
    child = workspace.run_dir(identity["run_id"])
    write_atomically(child.identity, json.dumps(identity))
    store.close()
    rebuild_from_folders(workspace)
    with Store(workspace.db) as again:
        row = again.run(child.run_id)
        assert row is not None
        assert row.parent == f"{run.run_id}/x.pt"

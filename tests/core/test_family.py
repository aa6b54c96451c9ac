"""Families of runs, whole ones and such as edited data has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsuzuku.core.errors import NotFound
from tsuzuku.core.family import lineage
from tsuzuku.core.schemas import Attempt, Checkpoint, Run, Status
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[tuple[Workspace, Store]]:
    workspace = Workspace(tmp_path)
    with Store(workspace.db) as store:
        yield workspace, store


def run_id(number: int) -> str:
    return f"2026-11-21_19-{number // 60:02}-{number % 60:02}"


def put(
    store: Store, number: int, parent: str | None = None, *, step: int = 50, model: str = "m",
    status: Status = "stopped",
) -> str:  # fmt: skip
    name = run_id(number)
    run = Run(run_id=name, model_name=model, dataset_name="d", status=status, parent=parent,
              created_at=number, updated_at=number, global_step=step, epoch=step // 10,
              total_epochs=9, best_metric=0.5)  # fmt: skip
    store.put_run(run)
    return name


def begin(store: Store, name: str, number: int, start: int, origin: str | None) -> None:
    status: Status = "running" if number == 9 else "crashed"
    store.put_attempt(
        Attempt(run_id=name, attempt=number, pid=1, hostname="h", started_at=1.0, status=status,
                resumed_from=origin, start_step=start)
    )  # fmt: skip


def save(workspace: Workspace, store: Store, name: str, step: int, there: bool = True) -> str:
    folder = workspace.outputs / name[:10] / name[11:] / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    if there:
        (folder / f"{step}.pt").touch()
    store.put_checkpoint(
        Checkpoint(name=f"{step}.pt", run_id=name, model_name="m", dataset_name="d",
                   epoch=step // 10, global_step=step, path="p", size=1, sha256="x",
                   created_at=1.0, metrics={}, is_best=step == 20, pinned=step == 20)
    )  # fmt: skip
    return f"{name}/{step}.pt"


def test_a_family_with_what_was_deleted(empty: tuple[Workspace, Store]) -> None:
    workspace, store = empty
    old = put(store, 1)
    twenty = save(workspace, store, old, 20)
    thirty = save(workspace, store, old, 30, there=False)
    begin(store, old, 1, 0, None)
    begin(store, old, 2, 0, twenty)  # it ended before it had loaded anything
    begin(store, old, 3, 20, twenty)
    early, late = put(store, 2, twenty, model="other"), put(store, 3, thirty)
    lost = put(store, 4, f"{old}/40.pt")
    begin(store, lost, 1, 40, f"{old}/40.pt")
    below = put(store, 5, save(workspace, store, early, 30), status="running")
    begin(store, below, 9, 30, f"{early}/30.pt")
    orphan, alone = put(store, 6, "2020-01-01_00-00-00/7.pt"), put(store, 7)

    found = lineage(workspace, store)
    assert [(r.run_id, r.depth) for r in found.runs] == [
        (alone, 0), (orphan, 0), (old, 0), (early, 1), (below, 2), (late, 1), (lost, 1)
    ]  # fmt: skip
    by = {r.run_id: r for r in found.runs}
    branches = {
        name: (b.checkpoint, b.global_step, b.state) for name, r in by.items() if (b := r.branch)
    }
    assert branches == {
        orphan: ("7.pt", None, "run_deleted"),
        early: ("20.pt", 20, "there"),
        below: ("30.pt", 30, "there"),
        late: ("30.pt", 30, "checkpoint_deleted"),
        lost: ("40.pt", 40, "checkpoint_deleted"),
    }
    assert [(a.from_step, a.to_step) for a in by[old].attempts] == [(0, 20), (None, None), (20, 50)]
    marks = [(m.name, m.is_best, m.pinned, m.there) for m in by[old].checkpoints]
    assert marks == [("20.pt", True, True, True), ("30.pt", False, False, False)]
    # its worker is gone without a word
    assert (by[below].status, by[below].attempts[0].status) == ("crashed", "crashed")

    family = lineage(workspace, store, run_id=below)
    assert [r.run_id for r in family.runs] == [old, early, below, late, lost]
    assert lineage(workspace, store, model_name="other").runs == family.runs
    assert lineage(workspace, store, model_name="nobody").runs == []
    part = lineage(workspace, store, limit=4)
    assert ([r.run_id for r in part.runs], part.total) == ([alone, orphan, old, early], 7)
    with pytest.raises(NotFound, match="nobody"):
        lineage(workspace, store, run_id="nobody")


@given(st.lists(st.none() | st.integers(-1, 9), max_size=10))
@settings(max_examples=60)
def test_whatever_parents_say_every_run_is_shown_once(
    tmp_path_factory: pytest.TempPathFactory, parents: list[int | None]
) -> None:
    """Even a run that descends from itself, or from one that never was."""
    workspace = Workspace(tmp_path_factory.mktemp("circles"))
    with Store(workspace.db) as store:
        for number, parent in enumerate(parents):
            named = {None: None, -1: "no slash"}.get(parent, f"{run_id(parent or 0)}/1.pt")
            put(store, number, named)
        found = lineage(workspace, store)
        place = {run.run_id: at for at, run in enumerate(found.runs)}
        assert sorted(place) == [run_id(number) for number in range(len(parents))]
        for run in found.runs:
            if run.depth:
                assert run.branch is not None
                assert place[run.branch.run_id] < place[run.run_id]
                assert found.runs[place[run.branch.run_id]].depth == run.depth - 1
            family = lineage(workspace, store, run_id=run.run_id).runs
            assert run in family
            assert [one.depth for one in family].count(0) == 1


def test_fine_tunings_and_files_of_other_programs_are_told_as_such(
    empty: tuple[Workspace, Store],
) -> None:
    workspace, store = empty
    first = put(store, 1)
    origin = save(workspace, store, first, 30)
    tuned = put(store, 2, origin, step=12)
    store.update_run(tuned, fine_tuning=True)
    begin(store, tuned, 1, 0, origin)
    begun = put(store, 3, "imports/other.ckpt")
    found = {run.run_id: run for run in lineage(workspace, store).runs}
    branch = found[tuned].branch
    assert branch is not None
    assert (branch.fine_tuning, branch.global_step, branch.state) == (True, 30, "there")
    assert [(s.from_step, s.to_step) for s in found[tuned].attempts] == [(0, 12)]
    branch = found[begun].branch
    assert branch is not None
    assert (branch.state, branch.checkpoint, branch.run_id) == ("imported", "other.ckpt", "")
    assert found[begun].depth == 0

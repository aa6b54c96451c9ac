"""Retention applied to the files of a run."""

from __future__ import annotations

import pytest

from made_runs import begin, checkpoint
from tsuzuku.core import checkpoint_files
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.holding import held
from tsuzuku.core.launch import prepare
from tsuzuku.core.pruning import index_record, prune, prune_all
from tsuzuku.core.resume import plan_resume
from tsuzuku.core.settings import CheckpointSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

TWO = CheckpointSettings(keep_last_n=2, keep_best_n=1, milestones=[])


@pytest.fixture
def run(workspace: Workspace, store: Store) -> RunDir:
    made = begin(workspace, store)
    for epoch, loss in enumerate([0.9, 0.3, 0.5, 0.7, 0.8], 1):
        checkpoint(made, epoch, val_loss=loss)
    return made


def epochs(run: RunDir) -> list[int]:
    return [c.epoch for c in checkpoint_files.in_folder(run.checkpoints)[0]]


def test_the_newest_and_the_best_stay_with_their_sidecars(run: RunDir, store: Store) -> None:
    done = prune(run, TWO, store)
    assert epochs(run) == [2, 4, 5]
    assert done.removed == ["tiny-noise-epoch-1.pt", "tiny-noise-epoch-3.pt"]
    assert len(list(run.checkpoints.iterdir())) == 6
    assert {r.name: r.kept_because for r in done.records} == {
        "tiny-noise-epoch-2.pt": ["best"],
        "tiny-noise-epoch-4.pt": ["last 2"],
        "tiny-noise-epoch-5.pt": ["latest", "last 2"],
    }
    assert [(r.epoch, r.is_best, r.is_latest) for r in done.records] == [
        *((2, True, False), (4, False, False), (5, False, True))
    ]
    assert prune(run, TWO, store).removed == []


def test_a_dry_run_says_the_same_and_deletes_nothing(run: RunDir, store: Store) -> None:
    said = prune(run, TWO, store, dry=True).removed
    assert epochs(run) == [1, 2, 3, 4, 5]
    assert prune(run, TWO, store).removed == said


def test_nothing_is_deleted_before_the_newest_has_been_verified(run: RunDir, store: Store) -> None:
    newest = run.checkpoints / "tiny-noise-epoch-5.pt"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptCheckpoint, match="epoch-5"):
        prune(run, TWO, store)
    assert epochs(run) == [1, 2, 3, 4, 5]


def test_a_pinned_checkpoint_stays(run: RunDir, store: Store) -> None:
    record = prune(run, CheckpointSettings(), store).records[0]
    store.put_checkpoint(record.model_copy(update={"pinned": True}))
    done = prune(run, TWO, store)
    assert epochs(run) == [1, 2, 4, 5]
    assert done.records[0].pinned
    assert done.records[0].kept_because == ["pinned"]


def test_the_parent_of_a_branch_stays(workspace: Workspace, run: RunDir, store: Store) -> None:
    target = f"{run.run_id}/tiny-noise-epoch-1.pt"
    prepare(workspace, store, plan_resume(workspace, store, target, ["seed=1"]))
    done = prune(run, TWO, store)
    assert epochs(run) == [1, 2, 4, 5]
    assert done.records[0].kept_because == ["in use"]


def test_the_file_that_best_came_from_may_go(run: RunDir, store: Store) -> None:
    checkpoint_files.link_best(
        checkpoint_files.read(run.checkpoints / "tiny-noise-epoch-1.pt"), "tiny-noise-best.pt"
    )
    prune(run, TWO, store)
    assert epochs(run) == [2, 4, 5]
    checkpoint_files.check(checkpoint_files.read(run.checkpoints / "tiny-noise-best.pt"))


def test_checkpoints_within_an_epoch_are_no_candidates_for_best(run: RunDir, store: Store) -> None:
    checkpoint(run, 5, step=53, val_loss=0.1)
    done = prune(run, TWO, store)
    assert [(r.epoch, r.global_step) for r in done.records] == [(2, 20), (5, 50), (5, 53)]


def test_without_validation_the_training_loss_counts(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store)
    for epoch, loss in enumerate([0.9, 0.1, 0.5, 0.4], 1):
        checkpoint(run, epoch, train_loss=loss)
    prune(run, TWO, store)
    assert epochs(run) == [2, 3, 4]


def test_a_run_without_checkpoints_is_no_problem(workspace: Workspace, store: Store) -> None:
    assert prune(begin(workspace, store), TWO, store).records == []


def test_bad_and_foreign_files_are_left_alone(run: RunDir, store: Store) -> None:
    (run.checkpoints / "foreign.pth").write_bytes(b"x")
    prune(run, TWO, store)
    assert (run.checkpoints / "foreign.pth").exists()


def test_a_row_of_the_index_says_what_the_sidecar_says(run: RunDir) -> None:
    found = checkpoint_files.read(run.checkpoints / "tiny-noise-epoch-2.pt")
    row = index_record(found, is_best=True)
    assert (row.run_id, row.model_name, row.dataset_name) == (run.run_id, "tiny", "noise")
    assert (row.epoch, row.global_step, row.size) == (2, 20, found.path.stat().st_size)
    assert (row.created_at, row.metrics, row.is_best) == (1020.0, {"val_loss": 0.3}, True)


def test_one_that_somebody_uses_stays_and_is_said_to_be_in_use(run: RunDir, store: Store) -> None:
    used = run.checkpoints / "tiny-noise-epoch-1.pt"
    with held(used):
        done = prune(run, TWO, store)
        assert done.removed == ["tiny-noise-epoch-3.pt"]
        assert {r.name: r.kept_because for r in done.records}[used.name] == ["in use"]
    assert prune(run, TWO, store).removed == [used.name]


def test_a_damaged_run_does_not_keep_the_others_from_being_pruned(
    workspace: Workspace, run: RunDir, store: Store
) -> None:
    other = begin(workspace, store, "checkpoint.keep_last_n=1", "checkpoint.milestones=[]")
    for epoch in (1, 2, 3):
        checkpoint(other, epoch, val_loss=1.0 - epoch / 10)
    damaged = begin(workspace, store, "checkpoint.keep_last_n=1", "checkpoint.milestones=[]")
    for epoch in (1, 2, 3):
        checkpoint(damaged, epoch, val_loss=1.0 - epoch / 10)
    newest = damaged.checkpoints / "tiny-noise-epoch-3.pt"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    removed, _, wrong = prune_all(workspace, store, dry=False)
    assert {r["run_id"] for r in removed} == {other.run_id}
    (said,) = wrong
    assert said.startswith(f"{damaged.run_id}: nothing was removed, since ")
    assert "altered" in said
    assert epochs(damaged) == [1, 2, 3]
    assert epochs(other) == [3]

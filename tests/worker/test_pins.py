"""A pin outlives whatever a training does to its checkpoints."""

from __future__ import annotations

import attempts

from tsuzuku.core.pruning import pins
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

KEEP = ["training.checkpoint.keep_last_n=2", "training.checkpoint.milestones=[]", "scheduler=none"]


def test_a_pinned_checkpoint_is_there_after_a_resume_and_more_saves(
    workspace: Workspace, store: Store
) -> None:
    run = attempts.straight(workspace, store, "num_epochs=2", *KEEP)
    name = "tiny-noise-epoch-1.pt"
    (row,) = store.checkpoints(run_id=run.run_id, name=name)
    store.mark_checkpoint(run.run_id, name, pinned=True, verified=True)
    again = attempts.resume(workspace, store, run.run_id, "num_epochs=6")
    assert again.run_id == run.run_id
    assert attempts.attempt(workspace, again) == 0, attempts.said(again)
    (kept,) = store.checkpoints(run_id=run.run_id, name=name)
    assert (kept.pinned, kept.verified, kept.sha256) == (True, True, row.sha256)
    assert "pinned" in kept.kept_because
    assert (run.checkpoints / name).exists()
    assert not (run.checkpoints / "tiny-noise-epoch-2.pt").exists()
    store.mark_checkpoint(run.run_id, name, pinned=False)
    assert pins(store, run.run_id) == set()
    (kept,) = store.checkpoints(run_id=run.run_id, name=name)
    assert "pinned" not in kept.kept_because

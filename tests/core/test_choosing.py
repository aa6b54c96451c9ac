"""Which weights are meant."""

from __future__ import annotations

import shutil

import pytest

from made_runs import begin, checkpoint
from tsuzuku.core import checkpoint_files
from tsuzuku.core.choosing import best, checkpoint_to_use, trained_model, trained_models
from tsuzuku.core.errors import NotFound
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace


def chosen(workspace: Workspace, store: Store, **how: str) -> str:
    run, found = checkpoint_to_use(workspace, store, **how)
    return f"{run.run_id}/{found.name}"


@pytest.fixture
def runs(workspace: Workspace, store: Store) -> tuple[RunDir, RunDir, RunDir]:
    """An old one with a best copy, a newer one without, and the newest without checkpoints."""
    old, new, empty = (begin(workspace, store) for _ in range(3))
    for epoch in (1, 2, 3):
        file = checkpoint(old, epoch, val_loss=abs(epoch - 2))
        if epoch == 2:
            checkpoint_files.link_best(file, "tiny-noise-best.pt")
    checkpoint(new, 1)
    checkpoint(new, 2)
    return old, new, empty


def test_the_best_then_the_newest(
    workspace: Workspace, store: Store, runs: tuple[RunDir, RunDir, RunDir]
) -> None:
    old, new, empty = runs
    assert chosen(workspace, store, run_id=old.run_id) == f"{old.run_id}/tiny-noise-best.pt"
    newest = f"{new.run_id}/tiny-noise-epoch-2.pt"
    assert chosen(workspace, store) == newest
    assert chosen(workspace, store, model_name="tiny") == newest
    assert chosen(workspace, store, model_name="") == newest
    with pytest.raises(NotFound, match=empty.run_id):
        checkpoint_to_use(workspace, store, run_id=empty.run_id)
    with pytest.raises(NotFound, match="of vae"):
        checkpoint_to_use(workspace, store, model_name="vae")


def test_a_named_one(
    workspace: Workspace, store: Store, runs: tuple[RunDir, RunDir, RunDir]
) -> None:
    old, new, _ = runs
    name = "tiny-noise-epoch-1.pt"
    assert chosen(workspace, store, checkpoint=name) == f"{new.run_id}/{name}"
    assert chosen(workspace, store, checkpoint=name, run_id=old.run_id) == f"{old.run_id}/{name}"
    full = f"{old.run_id}/{name}"
    assert chosen(workspace, store, checkpoint=full, run_id=new.run_id) == full
    for wrong in ("no.pt", f"{old.run_id}/no.pt", "../run.json", str(old.checkpoints / name)):
        with pytest.raises(NotFound):
            checkpoint_to_use(workspace, store, checkpoint=wrong)


def test_trained_models(
    workspace: Workspace, store: Store, runs: tuple[RunDir, RunDir, RunDir]
) -> None:
    old, new, empty = runs
    new.weights.write_bytes(b"weights")
    empty.weights.mkdir()  # something else of that name
    models = {m.name: m for m in trained_models(workspace, store)}
    assert list(models) == [f"{new.run_id}-final", f"{old.run_id}-best"]
    assert models[f"{new.run_id}-final"].size == 7
    assert models[f"{old.run_id}-best"].epoch == 2
    run, kind = trained_model(workspace, f"{old.run_id}-best")
    assert (run.run_id, kind) == (old.run_id, "best")
    shutil.rmtree(old.path)
    assert [m.name for m in trained_models(workspace, store)] == [f"{new.run_id}-final"]


@pytest.mark.parametrize(
    "name", ["", "best", "../2026-11-21_19-20-14-best", "2026-11-21_19-20-14-worst",
             "2026-11-21_19-20-14-best\n", "2020-01-01_00-00-00-final"],
)  # fmt: skip
def test_a_name_that_is_no_trained_model(workspace: Workspace, name: str) -> None:
    with pytest.raises(NotFound):
        trained_model(workspace, name)


def test_a_best_copy_that_cannot_be_read_is_none(
    workspace: Workspace, store: Store, runs: tuple[RunDir, RunDir, RunDir]
) -> None:
    old, *_ = runs
    (old.checkpoints / "tiny-noise-best.pt.json").write_text("{")
    assert best(old) is None
    assert chosen(workspace, store, run_id=old.run_id) == f"{old.run_id}/tiny-noise-epoch-3.pt"

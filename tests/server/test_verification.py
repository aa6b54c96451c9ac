"""The server finds out by itself that a checkpoint has been damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from house import House

from in_parts import save_in_parts, state_of
from made_runs import begin, checkpoint
from plain_plugins import make_workspace
from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import link_best, link_latest
from tsuzuku.core.pruning import index_anew
from tsuzuku.core.sidecars import sidecar
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.server import verification
from tsuzuku.server.verification import Verification

BEST = "tiny-noise-best.pt"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(make_workspace(tmp_path / "workspace"))


@pytest.fixture
def store(workspace: Workspace) -> Iterator[Store]:
    with Store(workspace.db) as one:
        yield one


@pytest.fixture
def run(workspace: Workspace, store: Store) -> RunDir:
    """Three checkpoints, of which the second is the best."""
    made = begin(workspace, store)
    for epoch, loss in enumerate([0.9, 0.3, 0.5], 1):
        checkpoint(made, epoch, val_loss=loss)
    files, _ = checkpoint_files.in_folder(made.checkpoints)
    link_latest(files[-1].path, "tiny-noise-latest.pt")
    link_best(files[1], BEST)
    index_anew(made, store)
    return made


@pytest.fixture
def looks(workspace: Workspace, store: Store, monkeypatch: pytest.MonkeyPatch) -> Verification:
    monkeypatch.setattr(verification, "SHARE", 1.0)
    return Verification(workspace, store, 24.0, "en")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def said(store: Store, run: RunDir) -> list[str]:
    """What it says is wrong."""
    told = store.events(run_id=run.run_id, types=["log"])
    return [str(e.payload["message"]) for e in told if e.payload["level"] == "error"]


def every(looks: Verification) -> int:
    count = 0
    while looks.look():
        count += 1
        assert count < 20
    return count


def test_each_is_looked_at_once_in_a_while(run: RunDir, store: Store, looks: Verification) -> None:
    assert every(looks) == 3
    assert all(c.verified for c in store.checkpoints(run_id=run.run_id))
    assert store.checked_at(run.run_id, "tiny-noise-epoch-1.pt")
    assert every(looks) == 0
    looks.hours = 0.0
    assert looks.look()


def test_a_damaged_one_is_moved_aside_and_a_resume_takes_another(
    run: RunDir, store: Store, looks: Verification
) -> None:
    damage(run.checkpoints / "tiny-noise-epoch-3.pt")
    assert every(looks) == 3
    assert (run.checkpoints / "tiny-noise-epoch-3.pt.corrupt").exists()
    names = [c.name for c in store.checkpoints(run_id=run.run_id)]
    assert names == ["tiny-noise-epoch-2.pt", "tiny-noise-epoch-1.pt"]
    latest = run.checkpoints / "tiny-noise-latest.pt"
    assert latest.resolve().name == "tiny-noise-epoch-2.pt"
    (line,) = said(store, run)
    assert line.startswith("Checkpoint tiny-noise-epoch-3.pt is damaged and was moved to")
    assert line.endswith("A resume takes tiny-noise-epoch-2.pt")


def test_the_best_goes_with_the_file_whose_bytes_it_has(
    run: RunDir, store: Store, looks: Verification
) -> None:
    damage(run.checkpoints / "tiny-noise-epoch-2.pt")
    every(looks)
    best = checkpoint_files.read(run.checkpoints / BEST)
    checkpoint_files.check(best)
    assert best.info["copy_of"] == "tiny-noise-epoch-3.pt"


def test_every_part_is_looked_at(run: RunDir, store: Store, looks: Verification) -> None:
    """A best has names of its own for the parts, and stays when the other's are gone."""
    path, best = run.checkpoints / "tiny-noise-epoch-4.pt", run.checkpoints / BEST
    state = state_of(4, 40)
    state["metadata"] = {"run_id": run.run_id, "timestamp": 2000.0}  # the newest
    link_best(save_in_parts(path, state, 2), BEST)
    index_anew(run, store)
    assert every(looks) == 4
    assert said(store, run) == []
    next(parts.folder_of(path).iterdir()).unlink()
    looks.hours = 0.0
    assert looks.look()
    assert parts.folder_of(path.with_name(f"{path.name}.corrupt")).is_dir()
    assert not parts.folder_of(path).exists()
    (line,) = said(store, run)
    assert "lacks its part" in line
    checkpoint_files.check(checkpoint_files.read(best))


def test_an_altered_sidecar_is_damage_too(run: RunDir, store: Store, looks: Verification) -> None:
    card = sidecar(run.checkpoints / "tiny-noise-epoch-1.pt")
    card.write_text(card.read_text().replace('"val_loss": 0.9', '"val_loss": 0.1'))
    every(looks)
    (line,) = said(store, run)
    assert "checksum does not fit" in line


def test_what_was_deleted_by_hand_is_no_damage(
    run: RunDir, store: Store, looks: Verification
) -> None:
    checkpoint_files.remove(run.checkpoints / "tiny-noise-epoch-1.pt")
    every(looks)
    assert len(store.checkpoints(run_id=run.run_id)) == 2
    assert said(store, run) == []


def test_a_server_that_ends_leaves_what_it_was_reading_alone(
    run: RunDir, store: Store, looks: Verification
) -> None:
    damage(run.checkpoints / "tiny-noise-epoch-3.pt")
    looks.close()
    looks.look()
    assert (run.checkpoints / "tiny-noise-epoch-3.pt").exists()
    assert said(store, run) == []


def test_the_api_says_when(
    run: RunDir, workspace: Workspace, store: Store, looks: Verification
) -> None:
    with ExitStack() as stack:
        house = House(workspace.root, stack)
        path = f"/api/checkpoints/{run.run_id}/tiny-noise-epoch-1.pt"
        assert house.api.get(path)["checked_at"] is None
        every(looks)
        assert house.api.get(path)["checked_at"] > 1.7e9

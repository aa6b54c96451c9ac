"""Names become paths in one place, and only the right ones."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from plain_plugins import python
from tsuzuku.core.errors import NotFound, WrongInput
from tsuzuku.core.lock import RunLock
from tsuzuku.core.schemas import ACTIVE, FINAL, Run
from tsuzuku.core.workspace import RunDir, Workspace, sync_folder, write_atomically

NOW = datetime(2026, 11, 21, 19, 20, 14)


def new_run(workspace: Workspace, now: datetime = NOW) -> RunDir:
    run = workspace.new_run_dir(now)
    run.identity.write_text("{}", encoding="utf-8")
    return run


def test_a_run_has_the_folder_and_the_id_of_the_contract(workspace: Workspace) -> None:
    run = new_run(workspace)
    assert run.path == workspace.outputs / "2026-11-21" / "19-20-14"
    assert run.run_id == "2026-11-21_19-20-14"
    assert all(f.is_dir() for f in (run.checkpoints, run.logs, run.source))
    assert workspace.run_dir(run.run_id).path == run.path


def test_two_runs_of_one_second_get_two_folders(workspace: Workspace) -> None:
    assert [new_run(workspace).run_id for _ in range(3)] == [
        *("2026-11-21_19-20-14", "2026-11-21_19-20-14-2", "2026-11-21_19-20-14-3")
    ]


MAKE = """
import sys
from datetime import datetime
from pathlib import Path
from tsuzuku.core.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    print(workspace.new_run_dir(datetime(2026, 11, 21, 19, 20, 14)).run_id)
"""


def test_processes_that_start_runs_in_one_second_never_share_a_folder(workspace: Workspace) -> None:
    processes = [python(MAKE, workspace.root) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ids = [line for p in processes for line in p.communicate("\n")[0].split()]
    assert len(ids) == 80
    assert len(set(ids)) == 80


def test_runs_are_listed_oldest_first_even_when_there_are_many_of_one_second(
    workspace: Workspace,
) -> None:
    made = [new_run(workspace).run_id for _ in range(12)]
    later = new_run(workspace, datetime(2026, 11, 21, 19, 20, 15)).run_id
    assert [r.run_id for r in workspace.run_dirs()] == [*made, later]


def test_folders_that_are_no_runs_are_not_listed(workspace: Workspace) -> None:
    run = new_run(workspace)
    for name in ("2026-11-21/19-20-99x", "2026-11-21/notes", "other/19-20-14", "2026-11-21/1-2-3"):
        (workspace.outputs / name).mkdir(parents=True)
        (workspace.outputs / name / "run.json").write_text("{}", encoding="utf-8")
    workspace.new_run_dir(NOW)  # began, and its process died before it had its identity
    assert [r.run_id for r in workspace.run_dirs()] == [run.run_id]


def test_a_workspace_without_outputs_has_no_runs(tmp_path: Path) -> None:
    assert list(Workspace(tmp_path).run_dirs()) == []
    with pytest.raises(WrongInput, match="not a workspace"):
        Workspace(tmp_path).config()


near_ids = st.from_regex(r"[0-9./_\-]{0,30}", fullmatch=True)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40) | near_ids)
@example("../secret_19-20-14")
@example("2026-11-21_../../../..")
@example("2026-11-21_19-20-14/../19-20-14")
@example("2026-11-21_19-20-14\n")
@example("2026-11-21_19-20-14\x00")
@example("２０２６-１１-２１_１９-２０-１４")
@example("/etc_19-20-14")
@example("")
def test_no_id_ever_becomes_another_path(workspace: Workspace, run_id: str) -> None:
    for name in ("run.json", "../run.json", "2026-11-21/run.json", "2026-11-21/19-20-14/run.json"):
        trap = workspace.outputs / name
        trap.parent.mkdir(parents=True, exist_ok=True)
        trap.write_text("{}", encoding="utf-8")
    assume(run_id != "2026-11-21_19-20-14")
    with pytest.raises(NotFound) as caught:
        workspace.run_dir(run_id)
    assert repr(run_id) in str(caught.value)


def status_of(workspace: Workspace, run_id: str, status: str, updated_at: float = 0.0) -> str:
    fields = {"run_id": run_id, "model_name": "m", "dataset_name": "d", "status": status}
    run = Run.model_validate({**fields, "created_at": 0.0, "updated_at": updated_at})
    return workspace.true_status(run).status


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_an_active_run_without_a_worker_has_crashed(workspace: Workspace, status: str) -> None:
    run = new_run(workspace)
    assert status_of(workspace, run.run_id, status) == "crashed"
    assert status_of(workspace, "2020-01-01_00-00-00", status) == "crashed"


@pytest.mark.parametrize("status", sorted(FINAL))
def test_a_run_that_ended_stays_as_it_ended(workspace: Workspace, status: str) -> None:
    assert status_of(workspace, new_run(workspace).run_id, status) == status


HOLD = """
import sys
from pathlib import Path
from tsuzuku.core.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_an_active_run_with_a_worker_is_what_it_says(workspace: Workspace, status: str) -> None:
    run = new_run(workspace)
    other = python(HOLD, run.lock)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert run.worker() == other.pid
        assert status_of(workspace, run.run_id, status) == status
    finally:
        other.communicate("\n")
    assert run.worker() is None
    assert status_of(workspace, run.run_id, status) == "crashed"


def test_a_run_that_was_just_created_is_given_time_to_start(workspace: Workspace) -> None:
    run = new_run(workspace)
    assert status_of(workspace, run.run_id, "starting", time.time()) == "starting"
    assert status_of(workspace, run.run_id, "running", time.time()) == "crashed"


def test_an_identity_that_cannot_be_read_is_named(workspace: Workspace) -> None:
    run = new_run(workspace)
    for content in (b"{", b"\xff\xfe", b""):
        run.identity.write_bytes(content)
        with pytest.raises(WrongInput, match=r"run\.json"):
            run.read_identity()


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "one")
    write_atomically(path, "二")
    assert path.read_text(encoding="utf-8") == "二"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    sync_folder(tmp_path)


def test_a_small_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\udcff")
    assert path.read_text(encoding="utf-8") == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_lock_of_a_run_is_in_its_folder(workspace: Workspace) -> None:
    run = new_run(workspace)
    lock = RunLock(run.lock)
    lock.acquire()
    lock.release()
    assert run.lock.parent == run.path

"""What a plan writes before its worker starts."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
import yaml

from made_runs import begin, checkpoint
from plain_plugins import TINY
from tsuzuku.core.config_loader import parse_overrides, read_run_settings
from tsuzuku.core.launch import prepare, spawn, worker_command, worker_environment
from tsuzuku.core.resume import plan_resume, plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


def test_a_fresh_plan_leaves_all_that_a_worker_needs(workspace: Workspace, store: Store) -> None:
    overrides = parse_overrides(["seed=7"])
    plan = plan_training(workspace, store, "tiny", "noise", overrides)
    launched = prepare(workspace, store, plan)
    run = workspace.run_dir(launched.run.run_id)
    assert (launched.attempt, launched.resumed_from) == (1, None)
    assert (run.source / "models" / "tiny.py").read_text(encoding="utf-8") == TINY
    identity = run.read_identity()
    assert identity["source"]["models/tiny.py"] == hashlib.sha256(TINY.encode()).hexdigest()
    assert set(identity["source"]) == {"models/tiny.py", "datasets/noise.py"}
    assert identity["requested"] == plan.settings.model_dump(mode="json")
    assert (identity["run_id"], identity["parent"]) == (run.run_id, None)
    assert read_run_settings(run.path) == plan.settings
    in_yaml = yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))
    assert in_yaml == json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    row = store.run(run.run_id)
    assert row is not None
    assert (row.status, row.total_epochs, row.parent) == ("starting", 3, None)
    assert not [p for p in run.path.rglob(".*") if p != run.lock]


def test_a_continued_run_keeps_its_source_and_takes_the_new_settings(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    before = run.read_identity()
    launched = prepare(
        workspace, store, plan_resume(workspace, store, run.run_id, ["num_epochs=9"])
    )
    assert launched.run.run_id == run.run_id
    assert launched.resumed_from == f"{run.run_id}/tiny-noise-epoch-1.pt"
    after = run.read_identity()
    assert after["requested"]["training"]["num_epochs"] == 9
    assert {k: v for k, v in after.items() if k != "requested"} == {
        k: v for k, v in before.items() if k != "requested"
    }
    row = store.run(run.run_id)
    assert row is not None
    assert (row.status, row.total_epochs) == ("starting", 9)
    assert len(list(workspace.run_dirs())) == 1


def test_a_branch_is_a_new_run_with_the_new_source_and_the_old_one_stays(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    (workspace.root / "models" / "tiny.py").write_text(TINY + "# new\n", encoding="utf-8")
    launched = prepare(workspace, store, plan_resume(workspace, store, run.run_id, ["seed=1"]))
    new = launched.run
    assert new.run_id != run.run_id
    assert new.read_identity()["parent"] == f"{run.run_id}/tiny-noise-epoch-1.pt"
    assert (new.source / "models" / "tiny.py").read_text(encoding="utf-8").endswith("# new\n")
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before
    row = store.run(new.run_id)
    assert row is not None
    assert row.parent == f"{run.run_id}/tiny-noise-epoch-1.pt"


def test_a_worker_is_not_led_astray_by_files_of_the_workspace() -> None:
    command = worker_command("train", "--run", "x")
    assert "-P" in command[: command.index("-m")]
    assert command[-3:] == ["train", "--run", "x"]


def test_what_the_environment_says_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_environment()["PYTHONUNBUFFERED"] == "1"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert worker_environment()["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_worker_has_a_session_of_its_own_and_a_log(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store)
    (workspace.root / "torch.py").write_text("raise SystemExit('led astray')\n", encoding="utf-8")
    run.identity.write_text("{", encoding="utf-8")  # so that it ends at once
    process = spawn(workspace, run)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert process.wait(timeout=120) == 2
    log = run.worker_log.read_text(encoding="utf-8")
    assert "run.json" in log
    assert "led astray" not in log

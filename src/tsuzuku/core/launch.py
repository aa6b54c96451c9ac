"""Starting a worker: its run folder, its rows, its command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tsuzuku.core import checkpoint_files, importing, journal
from tsuzuku.core.config_loader import dump_yaml
from tsuzuku.core.messages import Language, text
from tsuzuku.core.resume import Plan
from tsuzuku.core.schemas import Event, EventType, Run
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace, write_atomically


@dataclass(frozen=True)
class Launched:
    """A run that is ready for its next worker."""

    run: RunDir
    attempt: int
    resumed_from: str | None


def prepare(workspace: Workspace, store: Store, plan: Plan) -> Launched:
    """Write the folder and the rows for a plan that trains; the worker finds all it needs there."""
    if plan.mode == "continue" and plan.run is not None:
        run = plan.run
        identity = run.read_identity()
        identity["requested"] = plan.settings.model_dump(mode="json")
        _write_identity(run, identity)
        # final weights are those of a completed run, which this one no longer is
        run.weights.unlink(missing_ok=True)
        attempts = store.attempts(run.run_id)
        store.update_run(run.run_id, total_epochs=plan.settings.training.num_epochs)
        _announce(store, run, plan.settings.language)
        return Launched(run, len(attempts) + 1, plan.origin)
    if plan.checkpoint is not None and plan.checkpoint.info.get("role") == "best":
        # the file that it was copied from is gone, and `best` itself may be replaced any time
        plan = replace(plan, checkpoint=checkpoint_files.restore_original(plan.checkpoint))
    run = workspace.new_run_dir(datetime.now())
    origin = _taken(plan, run)
    now = time.time()
    sources: dict[str, str] = {}
    for plugin in (plan.model, plan.dataset):
        target = run.source / plugin.label
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(plugin.path, target)
        sources[plugin.label] = plugin.sha256()
    identity: dict[str, Any] = {
        "run_id": run.run_id,
        "model_name": plan.settings.model_name,
        "dataset_name": plan.settings.dataset_name,
        "created_at": now,
        "parent": plan.origin,
        "fine_tuning": plan.fine_tuning,
        "requested": plan.settings.model_dump(mode="json"),
        "source": sources,
        **({"origin": origin} if origin else {}),
    }
    write_settings(run, plan.settings)
    _write_identity(run, identity)
    store.put_run(
        Run(
            run_id=run.run_id,
            model_name=plan.settings.model_name,
            dataset_name=plan.settings.dataset_name,
            status="starting",
            created_at=now,
            updated_at=now,
            parent=plan.origin,
            fine_tuning=plan.fine_tuning,
            total_epochs=plan.settings.training.num_epochs,
        )
    )
    _announce(store, run, plan.settings.language)
    return Launched(run, 1, plan.origin)


def _taken(plan: Plan, run: RunDir) -> dict[str, Any] | None:
    """Copy the file of another program that a run begins from into its folder, which is no run
    until that is done; what its identity keeps of it."""
    if plan.foreign is None:
        return None
    try:
        origin = importing.take(plan.foreign, run)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    # as it was asked for then: what begins again before its first checkpoint begins the same way
    partial = plan.settings.training.initialize.partial
    return {**origin, "epoch": plan.epoch, "partial": partial}


def _announce(store: Store, run: RunDir, language: Language) -> None:
    """Say that a training begins: a worker needs seconds to load torch before its first word."""
    now = time.time()
    payloads: list[tuple[EventType, dict[str, Any]]] = [
        ("status", {"status": "starting", "message": ""}),
        ("log", {"level": "info", "message": text("preparing", language, {})}),
    ]
    events = [Event(type=kind, payload=p, run_id=run.run_id, time=now) for kind, p in payloads]
    journal.tell(store, run, events)


def write_settings(run: RunDir, settings: RunSettings) -> None:
    """Write `config.yaml` and `config.json` of a run."""
    tree = settings.model_dump(mode="json")
    write_atomically(run.path / "config.yaml", dump_yaml(tree))
    write_atomically(run.path / "config.json", json.dumps(tree, ensure_ascii=False, indent=1))


def worker_command(*words: str) -> list[str]:
    """The command line of a worker. `-P` keeps the workspace's files from shadowing libraries."""
    return [sys.executable, "-P", "-m", "tsuzuku.worker", *words]


def spawn(workspace: Workspace, run: RunDir) -> subprocess.Popen[bytes]:
    """Start a training worker in its own session, so that it outlives whoever started it."""
    run.logs.mkdir(exist_ok=True)
    with run.worker_log.open("ab") as log:
        return subprocess.Popen(
            worker_command(
                *("--workspace", str(workspace.root), "--outputs", str(workspace.outputs)),
                *("train", "--run", run.run_id),
            ),
            cwd=workspace.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=worker_environment(),
        )


def worker_environment() -> dict[str, str]:
    """The environment of a worker: unbuffered, and cuBLAS able to be deterministic.

    Threads of torch that wait for each other look for 70 microseconds whether it is their turn,
    and sleep then. By default they would look for milliseconds, so that on a machine on which
    anything else runs they keep the processor from the very thread that they wait for: a step
    took ten times as long beside two busy processes. On a quiet machine there is no difference.
    """
    own = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "GOMP_SPINCOUNT": "20000", "PYTHONUNBUFFERED": "1"}
    return own | os.environ


def _write_identity(run: RunDir, identity: dict[str, Any]) -> None:
    write_atomically(run.identity, json.dumps(identity, ensure_ascii=False, indent=1))

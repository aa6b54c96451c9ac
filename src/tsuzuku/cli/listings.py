"""runs, status, checkpoints."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from tsuzuku.cli.console import coloured, console, number, print_json, show, size, table, when
from tsuzuku.cli.train import open_store
from tsuzuku.core.errors import NotFound
from tsuzuku.core.pruning import index_anew
from tsuzuku.core.schemas import ACTIVE, Run
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


def runs(
    workspace: Workspace,
    model: str | None,
    dataset: str | None,
    status: str | None,
    rebuild: bool,
    as_json: bool,
) -> None:
    if rebuild:
        from tsuzuku.core.rebuild import rebuild_from_folders

        left_out: list[str] = []
        count = rebuild_from_folders(workspace, left_out)
        for sentence in left_out:
            print(sentence, file=sys.stderr)
        if not as_json:
            console.print(f"The database was made again from {count} run folders.")
    with open_store(workspace) as store:
        found = [
            workspace.true_status(r) for r in store.runs(model_name=model, dataset_name=dataset)
        ]
        found = [r for r in found if status is None or r.status == status]
        if as_json:
            print_json([_run(store, r) for r in found])
            return
    if not found:
        console.print("No runs yet. `tsuzuku train MODEL DATASET` begins one.")
        return
    rows = table(
        "run", "model", "dataset", "status", "epoch", "step", "best", "attempts", "parent",
        right=("epoch", "step", "best", "attempts"),
    )  # fmt: skip
    for r in found:
        rows.add_row(
            r.run_id,
            r.model_name,
            r.dataset_name,
            coloured(r.status),
            f"{r.epoch}/{r.total_epochs}",
            f"{r.global_step:,}",
            number(r.best_metric),
            str(r.attempt),
            r.parent or "",
        )
    show(rows)


def status(workspace: Workspace, as_json: bool) -> None:
    with open_store(workspace) as store:
        active = [r for r in map(workspace.true_status, store.runs()) if r.status in ACTIVE]
        last = {r.run_id: _progress(store, r) for r in active}
        if as_json:
            print_json(
                {
                    "is_training": bool(active),
                    "runs": [{**_run(store, r), "progress": last[r.run_id]} for r in active],
                }
            )
            return
    if not active:
        console.print("Nothing is being trained.")
    for r in active:
        p = last[r.run_id] or {}
        where = (
            f"Epoch {p['epoch']}/{p['total_epochs']}, Step {p['step']}/{p['total_steps']}, "
            f"loss {number(p['loss'])}"
            if p
            else ""
        )
        console.print(
            f"{r.run_id}  {r.model_name} on {r.dataset_name}  {coloured(r.status)}  {where}"
        )


def checkpoints(
    workspace: Workspace,
    model: str | None,
    dataset: str | None,
    run_id: str | None,
    as_json: bool,
) -> None:
    if run_id is not None:
        workspace.run_dir(run_id)
    with open_store(workspace) as store:
        for record in store.runs(model_name=model, dataset_name=dataset):
            if workspace.true_status(record).status == "crashed":
                with suppress(NotFound):  # its folder may have been deleted by hand
                    index_anew(workspace.run_dir(record.run_id), store)
        found = store.checkpoints(model_name=model, dataset_name=dataset, run_id=run_id)
    if as_json:
        print_json([{**c.model_dump(), "size_mb": round(c.size / 1e6, 3)} for c in found])
        return
    if not found:
        console.print("No checkpoints yet.")
        return
    rows = table(
        "checkpoint", "run", "epoch", "step", "val_loss", "size", "saved", "kept because",
        right=("epoch", "step", "size", "val_loss"),
    )  # fmt: skip
    for c in found:
        rows.add_row(
            c.name,
            c.run_id,
            str(c.epoch),
            f"{c.global_step:,}",
            number(c.metrics.get("val_loss", c.metrics.get("train_loss"))),
            size(c.size),
            when(c.created_at),
            ", ".join(c.kept_because),
        )
    show(rows)


def _run(store: Store, run: Run) -> dict[str, Any]:
    return {
        **run.model_dump(),
        "attempts": [a.model_dump() for a in store.attempts(run.run_id)],
    }


def _progress(store: Store, run: Run) -> dict[str, Any] | None:
    newest = store.last_event(run.run_id, "progress")
    return newest.payload if newest else None

"""runs, status, checkpoints."""

from __future__ import annotations

import sys
from typing import Any

from tsuzuku.cli.console import coloured, console, number, print_json, show, size, table, when
from tsuzuku.cli.source import Source
from tsuzuku.cli.tree import tree
from tsuzuku.core.answers import Progress


def runs(
    source: Source,
    model: str | None,
    dataset: str | None,
    status: str | None,
    rebuild: bool,
    as_tree: bool,
    as_json: bool,
) -> None:
    if rebuild:
        count, left_out = source.rebuild()
        for sentence in left_out:
            print(sentence, file=sys.stderr)
        if not as_json:
            console.print(f"The database was made again from {count} run folders.")
    if as_tree:
        tree(source, model, dataset, status, as_json)
        return
    found = source.runs(model, dataset, status)
    if as_json:
        print_json([r.model_dump() for r in found])
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


def status(source: Source, as_json: bool) -> None:
    active = source.active()
    if as_json:
        listed = [{**run.model_dump(), "progress": _newest(p)} for run, p in active]
        print_json({"is_training": bool(active), "runs": listed})
        return
    if not active:
        console.print("Nothing is being trained.")
    for run, p in active:
        where = (
            f"Epoch {p.current_epoch}/{p.total_epochs}, Step {p.current_step}/{p.total_steps}, "
            f"loss {number(p.current_loss)}"
            if p.total_steps
            else ""
        )
        console.print(
            f"{run.run_id}  {run.model_name} on {run.dataset_name}  {coloured(run.status)}  {where}"
        )


def _newest(p: Progress) -> dict[str, Any] | None:
    """The newest report as the event `progress` has it; None if there was none."""
    if not p.total_steps:
        return None
    return {
        "epoch": p.current_epoch,
        "total_epochs": p.total_epochs,
        "step": p.current_step,
        "total_steps": p.total_steps,
        "global_step": p.global_step,
        "loss": p.current_loss,
        "learning_rate": p.current_learning_rate,
        "grad_norm": p.grad_norm,
        "samples_per_second": p.samples_per_second,
    }


def checkpoints(
    source: Source,
    model: str | None,
    dataset: str | None,
    run_id: str | None,
    as_json: bool,
) -> None:
    found = source.checkpoints(model, dataset, run_id)
    if as_json:
        print_json([c.model_dump() for c in found])
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

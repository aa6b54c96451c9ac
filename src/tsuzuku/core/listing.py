"""Long listings as JSON text, of which each row keeps its own.

Ten thousand rows as Python objects take several tenths of a second to make, check and write;
this takes hundredths. The shapes are those of `answers.RunInfo` and `answers.CheckpointInfo`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable

from tsuzuku.core.schemas import Attempt, Checkpoint, Run

_CONTAINERS = frozenset({"metrics", "kept_because"})
_BOOLEANS = frozenset({"fine_tuning", "is_best", "is_latest", "verified", "pinned"})
_REALS = frozenset({"created_at", "updated_at", "started_at", "ended_at", "best_metric"})


def _item(fields: Iterable[str], **more: str) -> str:
    """The definition of a column that holds the row as a JSON object, kept by SQLite itself."""
    parts = [f"'{name}', {_cell(name)}" for name in fields]
    parts += [f"'{name}', {expression}" for name, expression in more.items()]
    return f"item TEXT GENERATED ALWAYS AS (json_object({', '.join(parts)})) STORED"


def _cell(name: str) -> str:
    if name in _CONTAINERS:
        return f"json({name})"
    if name in _BOOLEANS:
        return f"json(iif({name}, 'true', 'false'))"
    if name in _REALS:  # json_object would write 15 digits only, and 9e999 for infinity
        return f"json(iif(abs({name}) < 9e999, printf('%!.17g', {name}), 'null'))"
    return name


RUN_ITEM = _item(Run.model_fields, resumed_from="resumed_from", attempts="json(attempts)")
ATTEMPT_ITEM = _item(Attempt.model_fields)
CHECKPOINT_ITEM = _item(Checkpoint.model_fields, size_mb="round(size / 1e6, 3)")


def runs(
    db: sqlite3.Connection,
    *,
    model_name: str | None = None,
    dataset_name: str | None = None,
    status: str | None = None,
    run_id: str | None = None,
    crashed: Collection[str] = (),
    limit: int | None = None,
    offset: int = 0,
) -> list[str]:
    """One JSON object a run with its attempts, newest first.

    The runs in `crashed` have that status, whatever their rows say.
    """
    equal = {"model_name": model_name, "dataset_name": dataset_name, "run_id": run_id}
    where, bound = _where(equal)
    if status is not None and crashed:
        where += f" AND iif(run_id IN ({_marks(crashed)}), 'crashed', status) = ?"
        bound += [*crashed, status]
    elif status is not None:
        where, bound = where + " AND status = ?", [*bound, status]
    rows = db.execute(
        f"SELECT run_id, item FROM runs WHERE {where}"
        " ORDER BY created_at DESC, run_id DESC LIMIT ? OFFSET ?",
        [*bound, -1 if limit is None else limit, offset],
    ).fetchall()
    return [_as_crashed(item) if run in crashed else item for run, item in rows]


def _as_crashed(item: str) -> str:
    return json.dumps({**json.loads(item), "status": "crashed"}, ensure_ascii=False)


def checkpoints(
    db: sqlite3.Connection,
    *,
    model_name: str | None = None,
    dataset_name: str | None = None,
    run_id: str | None = None,
    name: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[str]:
    """One JSON object a checkpoint, newest first."""
    equal = {"model_name": model_name, "dataset_name": dataset_name}
    where, bound = _where(equal | {"run_id": run_id, "name": name})
    rows = db.execute(
        f"SELECT item FROM checkpoints WHERE {where}"
        " ORDER BY created_at DESC, global_step DESC, run_id DESC, name DESC LIMIT ? OFFSET ?",
        [*bound, -1 if limit is None else limit, offset],
    )
    return [item for (item,) in rows]


def _where(equal: dict[str, str | None]) -> tuple[str, list[str]]:
    wanted = {name: value for name, value in equal.items() if value is not None}
    return " AND ".join(f"{name} = ?" for name in wanted) or "1", list(wanted.values())


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))
